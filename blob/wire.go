package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The protocol, over any ordered pipe:
//
//	sender    "SMbl" manifest
//	receiver  reply
//	sender    after a want: the first K parts of each chunk wanted, by index
//	receiver  reply, and so on, until one that is not a want
//
// A receiver wants once, as a rule; again when what it believed to have from an
// earlier transfer turned out to be damaged. Every length follows from the
// manifest, which the receiver accepts or refuses before it takes any memory.
//
//	reply     1 byte  rest
//	want      1       a bitmap of (chunks+7)/8 bytes: the first chunk in the lowest bit
//	done      2       none: the receiver has it all, and has checked it
//	too large 3       8 bytes: the largest size that it takes
//	refused   4       none: it doesn't want this blob, or not this sender
//	failed    5       none: it could not store it
//	busy      6       none: another transfer writes to the same file
const (
	magic = "SMbl"

	replyWant     = 1
	replyDone     = 2
	replyTooLarge = 3
	replyRefused  = 4
	replyFailed   = 5
	replyBusy     = 6
)

// maxRounds is how often a receiver may want: enough for one that finds its
// partial file damaged twice, and an end for one that would never have enough.
const maxRounds = 4

type reply struct {
	kind byte
	want bitmap // of replyWant
	max  int64  // of replyTooLarge
}

func (r reply) append(dst []byte) []byte {
	dst = append(dst, r.kind)
	switch r.kind {
	case replyWant:
		dst = append(dst, r.want...)
	case replyTooLarge:
		dst = binary.BigEndian.AppendUint64(dst, uint64(r.max))
	}
	return dst
}

// readReply reads a reply about m. Errors wrap ErrProtocol or r's.
func readReply(r io.Reader, m *Manifest) (reply, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return reply{}, broken(err)
	}
	a := reply{kind: b[0]}
	switch a.kind {
	case replyDone, replyRefused, replyFailed, replyBusy:
	case replyWant:
		a.want = newBitmap(m.Chunks())
		if _, err := io.ReadFull(r, a.want); err != nil {
			return a, broken(err)
		}
		if !a.want.fits(m.Chunks()) || a.want.count() == 0 {
			return a, fmt.Errorf("%w: it wants chunks that don't exist, or none", ErrProtocol)
		}
	case replyTooLarge:
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return a, broken(err)
		}
		max := binary.BigEndian.Uint64(b[:])
		if max >= uint64(m.Size) || max > math.MaxInt64 {
			return a, fmt.Errorf("%w: it takes %d bytes, and refuses %d as too many", ErrProtocol, max, m.Size)
		}
		a.max = int64(max)
	default:
		return a, fmt.Errorf("%w: reply of kind %d", ErrProtocol, a.kind)
	}
	return a, nil
}

// err is what a sender makes of a reply that ends the transfer.
func (r reply) err(m *Manifest) error {
	switch r.kind {
	case replyTooLarge:
		return &SizeError{m.Size, r.max}
	case replyFailed:
		return ErrReceiver
	case replyBusy:
		return ErrBusy
	}
	return ErrRefused
}

// refusal is what a receiver answers to its own error.
func refusal(err error) reply {
	if s, ok := errors.AsType[*SizeError](err); ok {
		return reply{kind: replyTooLarge, max: s.Max}
	}
	for _, is := range []error{ErrManifest, ErrPart, ErrOtherBlob, ErrProtocol} {
		if errors.Is(err, is) {
			return reply{kind: replyRefused}
		}
	}
	if errors.Is(err, ErrBusy) {
		return reply{kind: replyBusy}
	}
	return reply{kind: replyFailed}
}

// broken turns an end in the middle into the error that it is.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
