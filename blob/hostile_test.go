package blob

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"
)

// script is a peer that writes one thing, then reads until its conn is closed.
func script(b []byte) func(context.Context, net.Conn) (Info, error) {
	return func(_ context.Context, c net.Conn) (Info, error) {
		_, err := c.Write(b)
		io.Copy(io.Discard, c)
		return Info{}, err
	}
}

func offer(m Manifest) []byte { return m.append([]byte(magic)) }

func TestHostileSender(t *testing.T) {
	s := source(t, random(3*chunk, 1), Options{})
	m := s.Manifest()
	huge := m
	huge.Size = 1 << 60
	large := m
	large.Size, large.ChunkSize = 1<<40, MaxChunk
	forged := part(t, s, 0)
	forged[len(forged)-1]++
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	var size *SizeError
	for name, tt := range map[string]struct {
		says []byte
		o    Options
		want func(error) bool
	}{
		"not a blob":      {bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 9), Options{}, is1(ErrProtocol)},
		"no manifest":     {append([]byte(magic), make([]byte, manifestSize)...), Options{}, is1(ErrManifest)},
		"2^60 bytes":      {offer(huge), Options{MaxSize: 1 << 62}, is1(ErrManifest)},
		"too large":       {offer(large), Options{}, func(err error) bool { return errors.As(err, &size) && size.Max == DefaultMaxSize }},
		"above MaxSize":   {offer(m), Options{MaxSize: 3*chunk - 1}, func(err error) bool { return errors.As(err, &size) && size.Size == 3*chunk }},
		"another blob":    {offer(m), Options{Want: ID{1}}, is1(ErrOtherBlob)},
		"a forged part":   {join(offer(m), forged), Options{}, is1(ErrPart)},
		"the second part": {join(offer(m), part(t, s, 1)), Options{}, is1(ErrProtocol)},
		"a part twice":    {join(offer(m), part(t, s, 0), part(t, s, 0)), Options{}, is1(ErrProtocol)},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out := transfer(t, script(tt.says), toFile(path, tt.o))
			runtime.ReadMemStats(&after)
			if !tt.want(out.receiver) || Broken(out.receiver) {
				t.Error(out.receiver)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 2<<20 {
				t.Errorf("it took %d bytes of memory", took)
			}
			if left, _ := filepath.Glob(path); left != nil {
				t.Error(left)
			}
		})
	}
}

func is1(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func TestHostileReceiver(t *testing.T) {
	s := source(t, random(3*chunk, 1), Options{})
	all := []byte{replyWant, 7}
	tooLarge := func(max uint64) []byte { return binary.BigEndian.AppendUint64([]byte{replyTooLarge}, max) }
	var size *SizeError
	for name, tt := range map[string]struct {
		says []byte
		want func(error) bool
	}{
		"unknown":           {[]byte{77}, is1(ErrProtocol)},
		"a fourth of three": {[]byte{replyWant, 8}, is1(ErrProtocol)},
		"nothing":           {[]byte{replyWant, 0}, is1(ErrProtocol)},
		"too large, but no": {tooLarge(3 * chunk), is1(ErrProtocol)},
		"2^63":              {tooLarge(1 << 63), is1(ErrProtocol)},
		"too large":         {tooLarge(5), func(err error) bool { return errors.As(err, &size) && size.Max == 5 }},
		"refused":           {[]byte{replyRefused}, is1(ErrRefused)},
		"failed":            {append(bytes.Clone(all), replyFailed), is1(ErrReceiver)},
		"busy":              {[]byte{replyBusy}, is1(ErrBusy)},
		"never enough":      {bytes.Repeat(all, 100), is1(ErrProtocol)},
	} {
		t.Run(name, func(t *testing.T) {
			out := transfer(t, sender(s), script(tt.says))
			if !tt.want(out.sendErr) || Broken(out.sendErr) {
				t.Error(out.sendErr)
			}
			if out.sent.Carried > (maxRounds+1)*3*chunk {
				t.Error("it was sent for ever:", out.sent.Carried)
			}
		})
	}
}

// TestRefusals: the sender hears why.
func TestRefusals(t *testing.T) {
	s := source(t, random(3*chunk, 1), Options{})
	var size *SizeError
	out := transfer(t, sender(s), toFile(filepath.Join(t.TempDir(), "f"), Options{MaxSize: 99}))
	if !errors.As(out.sendErr, &size) || size.Max != 99 || size.Size != 3*chunk {
		t.Error(out.sendErr)
	}
	out = transfer(t, sender(s), toFile(filepath.Join(t.TempDir(), "f"), Options{Want: ID{2}}))
	if !errors.Is(out.sendErr, ErrRefused) {
		t.Error(out.sendErr)
	}
	path := filepath.Join(t.TempDir(), "f")
	f, err := OpenFile(t.Context(), path, s.Manifest(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out = transfer(t, sender(s), toFile(path, Options{}))
	if !errors.Is(out.sendErr, ErrBusy) || !errors.Is(out.receiver, ErrBusy) {
		t.Error(out.sendErr, out.receiver)
	}
}

// TestChangedWhileSending: the receiver gets no wrong byte, the sender is told.
func TestChangedWhileSending(t *testing.T) {
	data := random(3*chunk, 1)
	s := source(t, data, Options{})
	data[chunk]++
	out := transfer(t, sender(s), toFile(filepath.Join(t.TempDir(), "f"), Options{}))
	if !errors.Is(out.sendErr, ErrChanged) || !Broken(out.receiver) {
		t.Error(out.sendErr, out.receiver)
	}
}

func TestContextEndsBoth(t *testing.T) {
	s := source(t, random(3*chunk, 1), Options{})
	why := errors.New("enough")
	for _, silent := range []string{"receiver", "sender"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		heard := make(chan struct{})
		hold := func(_ context.Context, c net.Conn) (Info, error) {
			c.Read(make([]byte, 1))
			close(heard)
			io.Copy(io.Discard, c)
			return Info{}, nil
		}
		go func() { // until the other end has said something
			<-heard
			cancel(why)
		}()
		send := func(_ context.Context, c net.Conn) (Info, error) { return s.Send(ctx, c, Options{}) }
		var out outcome
		if silent == "receiver" {
			out = transfer(t, send, hold)
			out.receiver = out.sendErr
		} else {
			out = transfer(t, func(c context.Context, n net.Conn) (Info, error) {
				n.Write(offer(s.Manifest()))
				return hold(c, n)
			}, func(_ context.Context, c net.Conn) (Info, error) { return Receive(ctx, c, &memory{}, Options{}) })
		}
		if !errors.Is(out.receiver, why) {
			t.Error(silent, out.receiver)
		}
	}
}

// TestMailboxThenConn: what mailboxes lack comes over a conn.
func TestMailboxThenConn(t *testing.T) {
	for _, o := range []Options{{}, {K: 2, N: 3}} {
		data := random(6*chunk, 1)
		s := source(t, data, o)
		var w memory
		a, err := NewAssembler(s.Manifest(), &w)
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range []int{1, 4} {
			for shard := range s.manifest.K {
				if err := a.Add(part(t, s, chunk*s.manifest.N+shard)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := a.Add(part(t, s, 2*s.manifest.N)); err != nil {
			t.Fatal(err)
		}
		missing := a.Missing()
		receive := func(ctx context.Context, c net.Conn) (Info, error) { return a.Receive(ctx, c, Options{}) }
		other := transfer(t, sender(source(t, random(10, 2), Options{})), receive)
		if !errors.Is(other.receiver, ErrOtherBlob) {
			t.Error(other.receiver)
		}
		out := transfer(t, sender(s), receive).ok(t)
		if out.got.Carried != int64(missing*chunk) || !bytes.Equal(w.b, data) {
			t.Error(out, missing)
		}
	}
}
