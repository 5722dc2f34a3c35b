package memory

import (
	"bytes"
	"errors"
	"testing"

	"github.com/splitmesh/splitmesh/transport"
)

// FuzzOpening reads first bytes: what is accepted is what the encoder writes.
func FuzzOpening(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0})
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 3, 'a', 'b'})
	f.Add([]byte{0x10, 0x01})
	f.Add(appendOpening(nil, make([]byte, transport.MaxOpening)))
	f.Add(append(appendOpening(nil, []byte("opening")), "first data"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		opening, err := readOpening(r)
		if err != nil {
			if long := len(b) >= 2 && int(b[0])<<8|int(b[1]) > transport.MaxOpening; long != errors.Is(err, transport.ErrOpeningTooLarge) {
				t.Fatalf("%x: %v", b[:2], err)
			}
			return
		}
		used := b[:len(b)-r.Len()]
		if again := appendOpening(nil, opening); !bytes.Equal(again, used) {
			t.Fatalf("read %x, written again %x", used, again)
		}
	})
}
