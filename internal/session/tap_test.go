package session

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/splitter"
)

// taps record what the relays of a pair see from its end a.
type taps struct {
	mu  sync.Mutex // guards all
	all []*tapConn
}

// A tapConn records all that is written: what its relay could capture.
type tapConn struct {
	net.Conn
	relay int
	path  uint32

	mu   sync.Mutex // guards all below
	seen []byte
	left int // writes before the path is cut, if not 0

	gone chan struct{} // closed with the conn
	once sync.Once
}

func (c *tapConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// cutAfter lets n writes more through, and cuts the path at the next.
func (c *tapConn) cutAfter(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = n + 1
}

func (x *taps) tap(c net.Conn, relay int, path uint32) net.Conn {
	if x == nil {
		return c
	}
	t := &tapConn{Conn: c, relay: relay, path: path, gone: make(chan struct{})}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, t)
	return t
}

func (c *tapConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.seen = append(c.seen, p...) // the relay may have it, whatever becomes of the path
	if c.left > 0 {
		c.left--
	}
	cut := c.left == 1
	c.mu.Unlock()
	if cut {
		c.Close()
	}
	return c.Conn.Write(p)
}

// plaintexts opens a relay's capture with the session's data keys, which the test
// has, and returns the frames by path.
func (x *taps) plaintexts(t testing.TB, relay int) (out [][]byte) {
	x.mu.Lock()
	all := slices.Clone(x.all)
	x.mu.Unlock()
	for _, c := range all {
		if c.relay != relay {
			continue
		}
		secret := sum("to", c.path)
		o, err := frame.NewOpener(frame.AES256GCM, &secret, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		rest := bytes.Clone(c.seen)
		c.mu.Unlock()
		for len(rest) >= frame.Peek {
			n, err := o.Size(rest[:frame.Peek])
			if err != nil {
				t.Fatal(err)
			}
			if n > len(rest) {
				break // cut off by the path's end
			}
			plain, err := o.Open(rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, bytes.Clone(plain))
			rest = rest[n:]
		}
	}
	return out
}

// A capturedShard is one that a relay has got.
type capturedShard struct {
	splitter.Shard
	lane    byte
	payload []byte
}

// shards are those that each relay has got.
func (x *taps) shards(t testing.TB) map[int][]capturedShard {
	out := make(map[int][]capturedShard)
	x.mu.Lock()
	all := slices.Clone(x.all)
	x.mu.Unlock()
	for _, c := range all {
		if out[c.relay] != nil {
			continue
		}
		for _, plain := range x.plaintexts(t, c.relay) {
			if plain[0] != typeShard {
				continue
			}
			lane, s, payload, err := parseShard(plain)
			if err != nil {
				t.Fatal(err)
			}
			out[c.relay] = append(out[c.relay], capturedShard{s, lane, payload})
		}
	}
	return out
}

// checkRule fails when a relay has got two shards of one sharing that differ.
func checkRule(t testing.TB, got map[int][]capturedShard, policy splitter.Policy) {
	t.Helper()
	if len(got) < policy.K {
		t.Fatalf("%d relays have got shards: the test shows nothing", len(got))
	}
	for relay, shards := range got {
		has := make(map[[9]byte]uint8)
		for _, s := range shards {
			var sharing [9]byte
			binary.BigEndian.PutUint64(sharing[:], s.Offset)
			sharing[8] = s.Generation
			if index, two := has[sharing]; two {
				t.Fatalf("relay %d has shards %d and %d of the block at %d, generation %d", relay, index, s.Index, s.Offset, s.Generation)
			}
			has[sharing] = s.Index
		}
	}
}
