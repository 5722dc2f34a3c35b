package store

import (
	"errors"
	"fmt"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

// A Transfer is of a file, to or from a peer.
type Transfer struct {
	Number int64 `cbor:"-"`
	Peer   identity.ID
	ID     uint64 // of the message that offered it
	Chat   protocol.Chat
	Out    bool
	Name   string
	Size   int64
	Path   string // where it is, or is to be
	State  TransferState
	Why    string // it failed
}

// A TransferState is how far a transfer is.
type TransferState uint8

// The states of a transfer.
const (
	Offered TransferState = 1 + iota
	Running
	Done
	Declined  // by who was to get it
	Failed    // for a reason
	Withdrawn // by who offered it
)

func (s TransferState) String() string {
	if s > Withdrawn {
		s = 0
	}
	return [...]string{"?", "offered", "running", "done", "declined", "failed", "taken back"}[s]
}

// Open reports whether somebody may still want the file.
func (s TransferState) Open() bool { return s == Offered || s == Running }

// PutTransfer keeps a transfer, a new one if it has no number. When there are too many, the oldest that has ended goes, or
// else the oldest that we have offered and nobody took; what others offer does not make them go.
func (t *Tx) PutTransfer(x *Transfer) (err error) {
	owner := t.s.hash("transfers")
	if x.Number != 0 {
		return t.set(kindTransfer, owner, x.Number, x)
	}
	all, err := t.Transfers()
	if err != nil {
		return err
	}
	his := 0
	for i := range all {
		if y := &all[i]; y.Peer == x.Peer && !y.Out && y.State == Offered {
			his++
		}
	}
	if !x.Out && his >= MaxOffered {
		return fmt.Errorf("files of one peer: %w", ErrFull)
	}
	if len(all) >= MaxTransfers {
		i := oldest(all, func(y *Transfer) bool { return !y.State.Open() })
		if i < 0 {
			i = oldest(all, func(y *Transfer) bool { return y.Out && y.State == Offered })
		}
		if i < 0 {
			return fmt.Errorf("files: %w: drop one first", ErrFull)
		}
		if err := t.cut(kindTransfer, owner, all[i].Number); err != nil {
			return err
		}
	}
	x.Number, err = t.push(kindTransfer, owner, x)
	return err
}

// oldest is the place of the first that is such, or -1.
func oldest(all []Transfer, such func(*Transfer) bool) int {
	for i := range all {
		if such(&all[i]) {
			return i
		}
	}
	return -1
}

// Transfers returns all, the oldest first. Damaged ones are taken out.
func (t *Tx) Transfers() (out []Transfer, err error) {
	owner := t.s.hash("transfers")
	rows, err := list[Transfer](t, kindTransfer, owner, 0, MaxTransfers, true)
	for _, r := range rows {
		if r.v == nil {
			err = errors.Join(err, t.cut(kindTransfer, owner, r.number))
			continue
		}
		r.v.Number = r.number
		out = append(out, *r.v)
	}
	return out, err
}
