package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// A piecewise conn gives its bytes in pieces of the sizes, over and over.
type piecewise struct {
	net.Conn
	b     []byte
	sizes []byte
	n     int
}

func (c *piecewise) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	size := len(b)
	if len(c.sizes) > 0 {
		size = 1 + int(c.sizes[c.n%len(c.sizes)])*int(c.sizes[c.n%len(c.sizes)])*2
		c.n++
	}
	n := copy(b[:min(len(b), size)], c.b)
	c.b = c.b[n:]
	return n, nil
}

func (c *piecewise) Write(b []byte) (int, error) { return len(b), nil }

// A list is a device that keeps what is written.
type list struct{ packets [][]byte }

func (l *list) Read([]byte) (int, error) { return 0, net.ErrClosed }
func (l *list) Close() error             { return nil }
func (l *list) Write(b []byte) (int, error) {
	l.packets = append(l.packets, bytes.Clone(b))
	return len(b), nil
}

// FuzzReceiver: however a conn's bytes come, the device gets each packet as it was sent.
func FuzzReceiver(f *testing.F) {
	peerKey, err := identity.NewKeyFromSeed(bytes.Repeat([]byte{1}, identity.SeedSize))
	if err != nil {
		f.Fatal(err)
	}
	ownKey, err := identity.NewKeyFromSeed(bytes.Repeat([]byte{2}, identity.SeedSize))
	if err != nil {
		f.Fatal(err)
	}
	book, err := overlay.Open(filepath.Join(f.TempDir(), "addresses"), ownKey.ID(), true)
	if err != nil {
		f.Fatal(err)
	}
	book.Guest(peerKey.ID())
	var rule acl.Rule
	if err := rule.UnmarshalText([]byte("allow *")); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 1, 2, 255, 255, 3}, []byte{0}, []byte{9})
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0, 255}, []byte{}, []byte{})
	f.Add([]byte{200, 1}, []byte{255, 3, 0}, []byte{0, 0, 0, 9, 9, 9})
	f.Fuzz(func(t *testing.T, packets, sizes, tail []byte) {
		if len(packets) > 64 {
			return
		}
		var sent []byte
		var want [][]byte
		for i, n := range packets {
			p := udp(overlay.V6(peerKey.ID()), overlay.V6(ownKey.ID()), 1, uint16(i), string(bytes.Repeat([]byte{n}, int(n)*int(n))))
			frame := make([]byte, packet.HeaderSize)
			packet.PutHeader(frame, packet.Whole, len(p)-packet.VnetSize)
			sent = append(append(sent, frame...), p[packet.VnetSize:]...)
			want = append(want, p)
		}
		device := new(list)
		e := New(Config{Node: &mesh.Node{Identity: ownKey}, Device: device, Book: book, Policy: Policy{Rules: acl.List{rule}}})
		r := &receiver{engine: e, peer: &peer{id: peerKey.ID(), engine: e}, conn: &piecewise{b: append(sent, tail...), sizes: sizes}}
		if err := r.run(); !errors.Is(err, io.EOF) && !errors.Is(err, packet.ErrFrame) {
			t.Fatal(err)
		}
		if len(device.packets) < len(want) {
			t.Fatalf("%d packets of %d", len(device.packets), len(want))
		}
		for i, p := range want {
			if !bytes.Equal(device.packets[i], p) {
				t.Fatalf("packet %d, of %d bytes, is not what was sent", i, len(p))
			}
		}
		for _, p := range device.packets[len(want):] { // of the tail
			if q, err := packet.Parse(p[packet.VnetSize:]); err != nil || binary.NativeEndian.Uint16(p[6:]) > uint16(q.Header) {
				t.Fatal(q, err)
			}
		}
	})
}
