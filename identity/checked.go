package identity

import (
	"encoding/binary"
	"sync/atomic"
)

// What NewID has let pass is remembered, with its Montgomery form: the checks are
// the dearest that is done with an ID, and a peer's is read again and again, out of
// addresses, records and handshakes. Only what passed is in here, so nobody can put
// anything wrong in; who fills a place with another key of theirs costs the next
// reader of the former a check. It is some 90 KB at most, and the same for all users.
var passed [1 << 10]atomic.Pointer[checked]

type checked struct {
	id     ID
	x25519 [32]byte
}

// place is where id is remembered, if it is. Its time depends on id, which is public.
func place(id *ID) *atomic.Pointer[checked] {
	return &passed[binary.LittleEndian.Uint16(id[:])%uint16(len(passed))]
}

// recall returns what is known of an ID that passed the checks, or nil.
func recall(id *ID) *checked {
	if c := place(id).Load(); c != nil && c.id == *id {
		return c
	}
	return nil
}
