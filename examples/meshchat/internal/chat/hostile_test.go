package chat

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// A mallory is a node that speaks the protocol as it likes.
type mallory struct {
	*mesh.Node
	t *testing.T
}

func (w *world) mallory() *mallory {
	w.t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	n := &mesh.Node{Identity: key, Bootstrap: w.addrs()}
	w.t.Cleanup(func() { n.Close() })
	return &mallory{n, w.t}
}

func (m *mallory) dials(p *person) net.Conn {
	m.t.Helper()
	var conn net.Conn
	eventually(m.t, "a conn", func() (ok bool) {
		c, err := m.Dial(m.t.Context(), p.ID.String()+":"+protocol.Service)
		conn = c
		return err == nil
	})
	m.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// greets also says hello.
func (m *mallory) greets(p *person, secret []byte) net.Conn {
	m.t.Helper()
	conn := m.dials(p)
	if err := protocol.Write(conn, &protocol.Hello{Version: 1, Nick: "Mallory", Secret: secret}); err != nil {
		m.t.Fatal(err)
	}
	if err := protocol.Read(conn, protocol.MaxHello, new(protocol.Welcome)); err != nil {
		m.t.Fatal(err)
	}
	return conn
}

// befriends makes mallory a contact.
func (m *mallory) befriends(p *person) net.Conn {
	m.t.Helper()
	v, err := p.Invite(m.t.Context(), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.greets(p, v.Secret)
}

// sends returns what becomes of messages.
func (m *mallory) sends(conn net.Conn, read uint64, messages ...protocol.Message) []protocol.Status {
	m.t.Helper()
	if err := protocol.Write(conn, &protocol.Batch{Messages: messages, Read: read}); err != nil {
		m.t.Fatal(err)
	}
	a := new(protocol.Answer)
	if err := protocol.Read(conn, protocol.MaxHello, a); err != nil {
		m.t.Fatal(err)
	}
	return a.Status
}

// cut wants the other side to end the conn.
func cut(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := conn.Read(make([]byte, 1<<10)); err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Error(what, "is heard on")
			}
			return
		}
	}
}

// TestNoProtocol: who does not follow the protocol is heard no more, and changes nothing.
func TestNoProtocol(t *testing.T) {
	w := newWorld(t, 2)
	ann, m := w.person("Ann"), w.mallory()
	ann.start()
	batch := func(c net.Conn) error {
		return protocol.Write(c, &protocol.Batch{Messages: []protocol.Message{{ID: 1, Text: "no hello"}}})
	}
	for what, f := range map[string]func(net.Conn) error{
		"a batch first": batch,
		"a long hello": func(c net.Conn) error {
			_, err := c.Write(binary.BigEndian.AppendUint32(nil, protocol.MaxHello+1))
			return err
		},
		"noise": func(c net.Conn) error {
			b := make([]byte, 1<<10)
			fill(b)
			_, err := c.Write(append([]byte{0, 0, 0, 100}, b...))
			return err
		},
	} {
		conn := m.dials(ann)
		if err := f(conn); err != nil {
			t.Fatal(err)
		}
		cut(t, what, conn)
	}
	for what, frame := range map[string][]byte{
		"an endless frame": {0xff, 0xff, 0xff, 0xff}, "hello again": {0, 0, 0, 3, 0xa1, 1, 1}, "no CBOR": {0, 0, 0, 1, 0xff},
	} {
		conn := m.befriends(ann)
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		cut(t, what, conn)
	}
	if got := ann.texts(protocol.Chat{Peer: m.ID()}); len(got) != 0 {
		t.Errorf("%q", got)
	}
	first, second := m.greets(ann, nil), m.greets(ann, nil)
	cut(t, "the older of two conns", first)
	if s := m.sends(second, 0, protocol.Message{ID: 1, Text: "x"}); !slices.Equal(s, []protocol.Status{protocol.Taken}) {
		t.Error(s)
	}
}

// TestReplay: what came before, or is older than what came, is taken for delivered and not shown again; a receipt for what
// was not delivered counts for nothing.
func TestReplay(t *testing.T) {
	w := newWorld(t, 2)
	ann, m := w.person("Ann"), w.mallory()
	ann.start()
	conn := m.befriends(ann)
	me := protocol.Chat{Peer: m.ID()}
	for _, ids := range [][]uint64{{5, 6}, {5}, {6}, {1, 7, 7}} {
		var messages []protocol.Message
		for _, id := range ids {
			messages = append(messages, protocol.Message{ID: id, Text: fmt.Sprint(id)})
		}
		for _, s := range m.sends(conn, 0, messages...) {
			if s != protocol.Taken {
				t.Error(ids, s)
			}
		}
	}
	ann.hears(me, "mallory: 5", "mallory: 6", "mallory: 7")
	ann.restart()
	conn = m.greets(ann, nil)
	m.sends(conn, protocol.MaxID, protocol.Message{ID: 7, Text: "again"}, protocol.Message{ID: protocol.MaxID, Text: "last"})
	ann.hears(me, "mallory: 5", "mallory: 6", "mallory: 7", "mallory: last")
	ann.says(me, "for you") // he listens on nothing
	ann.marked(me, "queued")
	m.sends(conn, protocol.MaxID)
	ann.marked(me, "queued")
}

// TestForgedRoom: only a room's creator says who is in it, only its members write in it, and an older word of its creator
// does not count.
func TestForgedRoom(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob, m := w.person("Ann"), w.person("Bob"), w.mallory()
	ann.start()
	bob.start()
	ann.meets(bob)
	conn := m.befriends(bob)
	room, err := ann.CreateRoom(t.Context(), "garden", bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	ann.says(room, "welcome")
	bob.hears(room, "ann: welcome")
	both := []identity.ID{bob.ID, m.ID()}
	slices.SortFunc(both, identity.ID.Compare)
	mine := protocol.Chat{Peer: m.ID(), Room: room.Room} // the same number: another room
	for _, tt := range []struct {
		what string
		m    protocol.Message
		want protocol.Status
	}{
		{"members of another's room", protocol.Message{ID: 10, Room: &room, Members: &protocol.Members{Name: "mine", IDs: both}}, protocol.Refused},
		{"a word in another's room", protocol.Message{ID: 11, Room: &room, Text: "let me in"}, protocol.Later},
		{"a room of a stranger", protocol.Message{ID: 12, Room: &protocol.Chat{Peer: ann.key.ID(), Room: 99}, Text: "x"}, protocol.Later},
		{"a room of his", protocol.Message{ID: 13, Room: &mine, Members: &protocol.Members{Name: "garden", IDs: []identity.ID{bob.ID}}}, protocol.Taken},
		{"a word in it", protocol.Message{ID: 14, Room: &mine, Text: "mine"}, protocol.Taken},
		{"he is put out", protocol.Message{ID: 16, Room: &mine, Members: &protocol.Members{Name: "garden"}}, protocol.Taken},
		{"an older word of who is in", protocol.Message{ID: 15, Room: &mine, Members: &protocol.Members{Name: "garden", IDs: []identity.ID{bob.ID}}}, protocol.Taken},
		{"a reply to no file", protocol.Message{ID: 17, Reply: &protocol.Reply{ID: 3, Accepted: true}}, protocol.Refused},
	} {
		if s := m.sends(conn, 0, tt.m); len(s) != 1 || s[0] != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, s, tt.want)
		}
	}
	bob.hears(room, "ann: welcome")
	rooms, err := bob.Rooms(t.Context())
	if err != nil || len(rooms) != 2 {
		t.Fatal(rooms, err)
	}
	for _, r := range rooms {
		want := store.Room{Chat: room, Name: "garden", Members: []identity.ID{bob.ID}}
		if r.Chat == mine {
			want = store.Room{Chat: mine, Name: "garden-2", Gone: true}
		}
		if r.Name != want.Name || r.Gone != want.Gone || !slices.Equal(r.Members, want.Members) {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	for i := range MaxRoomsOf + 5 {
		m.sends(conn, 0, protocol.Message{ID: uint64(100 + i), Room: &protocol.Chat{Peer: m.ID(), Room: uint64(1000 + i)}, Members: &protocol.Members{Name: "x", IDs: []identity.ID{bob.ID}}})
	}
	if rooms, err := bob.Rooms(t.Context()); err != nil || len(rooms) != 1+MaxRoomsOf {
		t.Error(len(rooms), err)
	}
}

// TestLaterStaysInOrder: what was written after a message that is put off is put off too, so that none is lost.
func TestLaterStaysInOrder(t *testing.T) {
	w := newWorld(t, 2)
	ann, m := w.person("Ann"), w.mallory()
	ann.start()
	conn := m.befriends(ann)
	room := protocol.Chat{Peer: m.ID(), Room: 7}
	in := &protocol.Members{Name: "r", IDs: []identity.ID{ann.ID}}
	got := m.sends(conn, 0, protocol.Message{ID: 1, Room: &room, Text: "too early"}, protocol.Message{ID: 2, Room: &room, Members: in}, protocol.Message{ID: 3, Text: "direct"})
	if !slices.Equal(got, []protocol.Status{protocol.Later, protocol.Later, protocol.Taken}) {
		t.Error(got)
	}
}

// TestManyStrangers leave no more than the limit.
func TestManyStrangers(t *testing.T) {
	w := newWorld(t, 0)
	ann := w.person("Ann")
	count := make(map[protocol.Status]int)
	for i := range MaxRequests + 10 {
		seed := sha256.Sum256([]byte{byte(i)})
		k, err := identity.NewKeyFromSeed(seed[:])
		if err != nil {
			t.Fatal(err)
		}
		s, err := ann.take(t.Context(), k.ID(), "", &protocol.Batch{Messages: []protocol.Message{{ID: 1, Text: "let me in"}, {ID: 2, File: &protocol.File{Name: "virus"}}}})
		if err != nil {
			t.Fatal(err)
		}
		count[s[0]]++
		count[s[1]]++
	}
	// Behind a message that is put off, its file is too.
	if count[protocol.Taken] != MaxRequests || count[protocol.Refused] != MaxRequests || count[protocol.Later] != 20 {
		t.Error(count)
	}
}

// TestHostileHost: a peer that answers what it was not asked, or nothing to the point, loses the conn and no message is
// taken for delivered.
func TestHostileHost(t *testing.T) {
	w := newWorld(t, 2)
	ann, m := w.person("Ann"), w.mallory()
	ann.start()
	l, err := m.Listen(protocol.Service)
	if err != nil {
		t.Fatal(err)
	}
	m.befriends(ann)
	me := protocol.Chat{Peer: m.ID()}
	for i, answer := range []*protocol.Answer{{}, {Status: []protocol.Status{protocol.Taken, protocol.Taken}}} {
		if i == 1 {
			ann.says(me, "hello")
		}
		var conn net.Conn
		eventually(t, "a conn that greets", func() bool { // a courier gives a dial up when its peer dials
			if conn, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
			return protocol.Read(conn, protocol.MaxHello, new(protocol.Hello)) == nil
		})
		for _, f := range []func() error{
			func() error { return protocol.Write(conn, &protocol.Welcome{Version: 1}) },
			func() error {
				if i == 0 {
					return nil
				}
				return protocol.Read(conn, protocol.MaxFrame, new(protocol.Batch))
			},
			func() error { return protocol.Write(conn, answer) },
		} {
			if err := f(); err != nil {
				t.Fatal(i, err)
			}
		}
		cut(t, "a wrong answer", conn)
	}
	ann.marked(me, "queued")
}

// TestOtherVersion: who speaks another version is told ours, and uses up no invitation.
func TestOtherVersion(t *testing.T) {
	w := newWorld(t, 2)
	ann, m := w.person("Ann"), w.mallory()
	ann.start()
	v, err := ann.Invite(t.Context(), nil)
	ann.does("invites", err)
	conn, welcome := m.dials(ann), new(protocol.Welcome)
	if err := errors.Join(protocol.Write(conn, &protocol.Hello{Version: 2, Secret: v.Secret}), protocol.Read(conn, protocol.MaxHello, welcome)); err != nil {
		t.Fatal(err)
	}
	cut(t, "another version", conn)
	if people, err := ann.Contacts(t.Context()); err != nil || len(people) != 0 || welcome.Version != protocol.Version || welcome.Known {
		t.Error(people, err, welcome)
	}
	if known, err := ann.meet(t.Context(), m.ID(), &protocol.Hello{Secret: v.Secret}); err != nil || !known {
		t.Error("the invitation is used up:", err)
	}
}
