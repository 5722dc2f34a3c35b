package frame_test

import (
	"bytes"
	"fmt"
	"io"

	"github.com/splitmesh/splitmesh/frame"
)

// A path's reader learns from the first Peek bytes how many more belong to the
// frame, so that it takes a buffer of the right size only when one is needed.
func Example() {
	secret := [32]byte{1, 2, 3} // from the handshake
	sealer, _ := frame.NewSealer(frame.ChaCha20Poly1305, &secret, 0)
	opener, _ := frame.NewOpener(frame.ChaCha20Poly1305, &secret, 0)

	var path bytes.Buffer
	for _, s := range []string{"hello", "world"} {
		wire, err := sealer.Seal(nil, []byte(s))
		if err != nil {
			fmt.Println(err)
			return
		}
		path.Write(wire)
	}

	var peek [frame.Peek]byte
	for {
		if _, err := io.ReadFull(&path, peek[:]); err != nil {
			return
		}
		n, err := opener.Size(peek[:])
		if err != nil {
			fmt.Println(err)
			return
		}
		wire := make([]byte, n)
		io.ReadFull(&path, wire[copy(wire, peek[:]):])
		plaintext, err := opener.Open(wire)
		fmt.Printf("%d: %s, %v\n", opener.Packet(), plaintext, err)
	}
	// Output:
	// 0: hello, <nil>
	// 1: world, <nil>
}
