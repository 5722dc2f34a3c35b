package dht

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func encoded(t testing.TB, m any) []byte {
	t.Helper()
	b, err := encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMessages(t *testing.T) {
	key := make([]byte, 32)
	for _, q := range []query{{Op: opPing}, {Op: opPing, Self: []byte{1}}, {Op: opFind, Key: key}, {Op: opStore, Key: key, Record: []byte{1}}} {
		var got query
		if err := read(bytes.NewReader(encoded(t, &q)), &got); err != nil || got.check() != nil || got.Op != q.Op {
			t.Errorf("%+v: %+v, %v", q, got, err)
		}
	}
	for _, q := range []query{{}, {Op: 4}, {Op: opPing, Key: key}, {Op: opFind}, {Op: opFind, Key: key[:31]}, {Op: opFind, Key: key, Record: []byte{1}}, {Op: opStore, Key: key}} {
		if err := q.check(); !errors.Is(err, errMessage) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	good := encoded(t, &query{Op: opFind, Key: key})
	for name, b := range map[string][]byte{
		"long, a query":  encoded(t, &query{Op: opFind, Key: key, Self: make([]byte, maxQuery)}),
		"too long":       binary.BigEndian.AppendUint32(nil, maxMessage+1),
		"no CBOR":        {0, 0, 0, 1, 0xff},
		"other types":    {0, 0, 0, 3, 0xa1, 0x01, 0x60},
		"unknown field":  {0, 0, 0, 3, 0xa1, 0x07, 0x01},
		"second form":    {0, 0, 0, 4, 0xa1, 0x01, 0x18, 0x01},
		"zero and there": {0, 0, 0, 3, 0xa1, 0x01, 0x00},
	} {
		var q query
		if err := read(bytes.NewReader(b), &q); err == nil && q.check() == nil {
			t.Errorf("%s: operation %d", name, q.Op)
		}
	}
	for n := range good {
		if err := read(bytes.NewReader(good[:n]), new(query)); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// However much there is to say, the answer fits, and what is closest comes first.
func TestAnswersFit(t *testing.T) {
	big := bytes.Repeat([]byte{1}, registry.MaxSize)
	a := &answer{Self: big}
	for i := range kad.K {
		a.Records = append(a.Records, big)
		a.Closer = append(a.Closer, append([]byte{byte(i)}, big[1:]...))
	}
	a.Records = a.Records[:2]
	a.fit()
	b := encoded(t, a)
	if len(b) > 4+maxMessage || len(a.Records) != 2 || len(a.Closer) < 8 || a.Closer[0][0] != 0 || a.Closer[7][0] != 7 {
		t.Errorf("%d bytes, %d records, %d nodes", len(b), len(a.Records), len(a.Closer))
	}
	if err := read(bytes.NewReader(b), new(answer)); err != nil {
		t.Error(err)
	}
}

func FuzzMessages(f *testing.F) {
	k := registrytest.Key(f)
	r := registrytest.Signed(f, k, time.Now()).Marshal()
	key := kad.PeerKey(k.ID())
	for _, m := range []any{
		&query{Op: opPing, Self: r}, &query{Op: opFind, Key: key[:]}, &query{Op: opStore, Key: key[:], Record: r},
		&answer{}, &answer{Verdict: vRollback, Self: r, Records: [][]byte{r, r}, Closer: [][]byte{r}},
	} {
		b, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []any{new(query), new(answer)} {
			in := bytes.NewReader(b)
			if err := read(in, m); err != nil {
				continue
			}
			again := encoded(t, m)
			if want := b[:len(b)-in.Len()]; !bytes.Equal(again, want) {
				t.Fatalf("% x was read, and would be written as % x", want, again)
			}
		}
	})
}

// A liar is a node that answers as it likes.
func liar(t *testing.T, f *fabric, answer func(q *query) any) *fnode {
	t.Helper()
	n := f.node(t, Config{Client: true})
	l, err := n.Listen(Service)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when l is closed
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var q query
			if err := read(c, &q); err == nil {
				switch a := answer(&q).(type) {
				case []byte:
					c.Write(a)
				case nil:
				default:
					c.Write(encoded(t, a))
				}
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return n
}

// Whatever a node answers, nothing that its peer did not sign is returned, nor what is old, of another or has expired.
func TestHostileAnswers(t *testing.T) {
	now := time.Now()
	victim, other := registrytest.Key(t), registrytest.Key(t)
	good := registrytest.Signed(t, victim, now)
	forged := good.Marshal()
	forged[len(forged)-1] ^= 1
	expired := registrytest.Draft(t, now.Add(-2*time.Hour))
	expired.Expires = now.Add(-time.Hour).UnixMilli()
	future := registrytest.Draft(t, now.Add(registry.MaxSkew+time.Hour))
	for _, r := range []*registry.Record{expired, future} {
		if err := r.Sign(victim); err != nil {
			t.Fatal(err)
		}
	}
	var self []byte
	for name, a := range map[string]func(q *query) any{
		"a forged record": func(*query) any { return &answer{Self: self, Records: [][]byte{forged}} },
		"another's record": func(*query) any {
			return &answer{Self: self, Records: [][]byte{registrytest.Signed(t, other, now).Marshal()}}
		},
		"one that has expired": func(*query) any { return &answer{Self: self, Records: [][]byte{expired.Marshal()}} },
		"one of the future":    func(*query) any { return &answer{Self: self, Records: [][]byte{future.Marshal()}} },
		"garbage for a record": func(*query) any {
			return &answer{Self: self, Records: [][]byte{[]byte("record")}, Closer: [][]byte{{1}, nil}}
		},
		"a forged node":         func(*query) any { return &answer{Self: self, Closer: [][]byte{forged}} },
		"a huge message":        func(*query) any { return binary.BigEndian.AppendUint32(nil, 1<<31) },
		"no message":            func(*query) any { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"nothing":               func(*query) any { return nil },
		"that it is busy":       func(*query) any { return &answer{Verdict: vBusy} },
		"that it knows better":  func(*query) any { return &answer{Verdict: vRollback, Self: self} },
		"with another's record": func(*query) any { return &answer{Self: good.Marshal()} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFabric(time.Now)
			evil := liar(t, f, a)
			self = evil.record(t).Marshal()
			n := f.node(t, Config{Bootstrap: []identity.ID{evil.ID()}})
			if r, err := n.Lookup(t.Context(), victim.ID()); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Lookup: %v, %v", r, err)
			}
			if err := n.Publish(t.Context(), good); err != nil {
				t.Errorf("Publish: %v", err)
			}
			for _, c := range n.contacts() {
				if c.ID == victim.ID() {
					t.Error("who never answered is in the table")
				}
			}
		})
	}
}

// What strangers send a node is refused, and leaves nothing behind.
func TestHostileQueries(t *testing.T) {
	now := time.Now()
	f := newFabric(time.Now)
	n := f.node(t, Config{})
	stranger := registrytest.Key(t).ID()
	k := registrytest.Key(t)
	good := registrytest.Signed(t, k, now)
	forged := good.Marshal()
	forged[len(forged)-1] ^= 1
	expired := registrytest.Draft(t, now.Add(-2*time.Hour))
	expired.Expires = now.Add(-time.Hour).UnixMilli()
	if err := expired.Sign(k); err != nil {
		t.Fatal(err)
	}
	key, elsewhere := kad.PeerKey(k.ID()), kad.CapabilityKey("nothing")
	store := func(r []byte, k kad.Key) verdict {
		return n.handle(&query{Op: opStore, Key: k[:], Record: r}, stranger).Verdict
	}
	before := n.Stats().Records
	for name, v := range map[string]verdict{
		"a forged record":      store(forged, key),
		"garbage":              store([]byte("record"), key),
		"one that has expired": store(expired.Marshal(), key),
		"under another's key":  store(good.Marshal(), elsewhere),
		"too large":            store(bytes.Repeat([]byte{1}, registry.MaxSize+1), key),
	} {
		if v != vInvalid {
			t.Errorf("%s: verdict %d", name, v)
		}
	}
	if got := n.Stats().Records; got != before {
		t.Errorf("%d records; want %d", got, before)
	}
	if v := store(good.Marshal(), key); v != vOK {
		t.Errorf("a good record: verdict %d", v)
	}
	older := registrytest.Signed(t, k, now.Add(-time.Minute))
	a := n.handle(&query{Op: opStore, Key: key[:], Record: older.Marshal()}, stranger)
	if a.Verdict != vRollback || len(a.Records) != 1 || !bytes.Equal(a.Records[0], good.Marshal()) {
		t.Errorf("an older record: %+v", a)
	}
	// Another's record as one's own does not make an asker known.
	n.handle(&query{Op: opPing, Self: good.Marshal()}, stranger)
	if len(n.checking) != 0 {
		t.Error("the owner of a record that somebody else showed is being asked")
	}
	if v := f.node(t, Config{Client: true, Bootstrap: []identity.ID{n.ID()}}).keep(good, key, stranger); v != vFar {
		t.Errorf("who only asks keeps a record: verdict %d", v)
	}
	// And garbage on the wire ends the conn.
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x40\x00", "\x00\x00\x00\x01\xa0", "\xff\xff\xff\xff"} {
		here, there := net.Pipe()
		go func() {
			here.Write([]byte(b))
			here.Close()
		}()
		if err := n.answer(there, stranger, served); err == nil {
			t.Errorf("%q was answered", b)
		}
		there.Close()
	}
}

// Who asks more often than it may is told so, and waits; who asks far more often is banned, and nobody else.
func TestFlood(t *testing.T) {
	l := limits{rate: 10}
	now := time.Now()
	flooder, other := registrytest.Key(t).ID(), registrytest.Key(t).ID()
	enter := func(id identity.ID) string {
		r, wait := l.enter(id, now)
		if most := time.Second; wait < 0 || wait > most || wait > 0 && r != refused {
			t.Fatalf("%v waits for %v", r, wait)
		}
		return [...]string{"answered", "busy", "dropped", "banned"}[r]
	}
	got := make(map[string]int)
	for range 1000 {
		r := enter(flooder)
		if got[r]++; r == "answered" || r == "busy" {
			l.leave(flooder)
		}
	}
	if got["answered"] != 40 || got["busy"] != 50 || got["banned"] != 6 || enter(other) != "answered" {
		t.Errorf("%v", got)
	}
	l.leave(other)
	if now = now.Add(time.Second); enter(flooder) != "answered" {
		t.Error("cut off for good")
	}
	l.leave(flooder)
	// However many ask, the count of them is bounded, newcomers are let in, and those who rest are forgotten.
	for range maxPeers + 100 {
		id := registrytest.Key(t).ID()
		if enter(id) != "answered" {
			t.Fatal("a newcomer is kept out")
		}
		l.leave(id)
	}
	if len(l.peers) > maxPeers || l.peers[flooder] == nil {
		t.Errorf("%d peers are counted, or the flooder has a new allowance", len(l.peers))
	}
	if now = now.Add(time.Minute); enter(registrytest.Key(t).ID()) != "answered" || len(l.peers) != 1 {
		t.Errorf("%d peers are counted a minute later", len(l.peers))
	}
	// Nor does one have more than so many answered at once, nor do all.
	l = limits{rate: 1e6}
	for i := range 2*maxServedOf + 1 {
		if want := []string{"answered", "busy", "dropped"}[i/maxServedOf]; enter(flooder) != want {
			t.Fatalf("the %dth at once is not %s", i, want)
		}
	}
	if enter(other) != "answered" {
		t.Error("one peer takes all")
	}
	for range maxServed {
		enter(registrytest.Key(t).ID())
	}
	if enter(registrytest.Key(t).ID()) != "busy" {
		t.Error("there is no end to what is answered at once")
	}
}

func TestRecent(t *testing.T) {
	d := New(Config{})
	d.seen = newRecent(3)
	now := time.Now()
	k := registrytest.Key(t)
	checks := 0
	d.check = func(b []byte) (*registry.Record, error) {
		checks++
		if !d.mu.TryLock() {
			t.Error("a signature is checked with the lock held")
		} else {
			d.mu.Unlock()
		}
		return registry.Parse(b)
	}
	old, newer := registrytest.Signed(t, k, now), registrytest.Signed(t, k, now.Add(time.Second))
	for _, tt := range []struct {
		r      *registry.Record
		newest bool
	}{{old, true}, {newer, true}, {old, false}, {newer, true}} {
		got, newest, err := d.parse(tt.r.Marshal())
		if err != nil || !got.Equal(tt.r) || newest != tt.newest {
			t.Errorf("%v, %v, %v", got, newest, err)
		}
	}
	if got, _, _ := d.parse(newer.Marshal()); got != d.seen.get(k.ID()) || checks != 3 {
		t.Error("a record that is known was checked again")
	}
	if _, _, err := d.parse([]byte(strings.Repeat("x", 10000))); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	d.sought.add(newer)
	flood := func() {
		for range 3 {
			if _, _, err := d.parse(registrytest.Signed(t, registrytest.Key(t), now).Marshal()); err != nil {
				t.Fatal(err)
			}
		}
	}
	flood()
	if c := d.seen; c.get(k.ID()) != nil || c.order.Len() != 3 || len(c.byID) != 3 || len(c.byHash) != 3 {
		t.Errorf("%d, %d, %d remembered", c.order.Len(), len(c.byID), len(c.byHash))
	}
	// What was looked for is still known to be the newest, whatever else was seen, and whether or not the old was.
	for range 2 {
		if _, newest, err := d.parse(old.Marshal()); newest || err != nil || d.newest(k.ID()) != newer {
			t.Errorf("an old record after a flood of others: %v, %v", newest, err)
		}
	}
}

// A node that is being asked is where the record says, without another lookup.
func TestCalling(t *testing.T) {
	var c calling
	id := registrytest.Key(t)
	r := registrytest.Signed(t, id, time.Now())
	if _, ok := c.get(id.ID()); ok {
		t.Error("is being asked")
	}
	done1 := c.add(id.ID(), nil)
	if got, ok := c.get(id.ID()); !ok || got != nil {
		t.Errorf("%v, %v", got, ok)
	}
	done2 := c.add(id.ID(), r)
	if got, ok := c.get(id.ID()); !ok || got != r {
		t.Errorf("%v, %v", got, ok)
	}
	done1()
	if _, ok := c.get(id.ID()); !ok {
		t.Error("is no longer asked while it is")
	}
	done2()
	if _, ok := c.get(id.ID()); ok {
		t.Error("is still being asked")
	}
}

func TestPeerOf(t *testing.T) {
	for _, addr := range []string{"", "nobody:dht", "192.0.2.1:443"} {
		if _, err := peerOf(pipeConn{remote: addr}); err == nil {
			t.Errorf("%q is a peer", addr)
		}
	}
}
