package store

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestTransfers: what has ended makes room for what is new, then what nobody took of ours; what one peer offers is bounded.
func TestTransfers(t *testing.T) {
	s := reopen(t, filepath.Join(t.TempDir(), "chat.db"))
	put := func(x *Transfer) error {
		return s.Update(t.Context(), func(tx *Tx) error { return tx.PutTransfer(x) })
	}
	for i := range MaxOffered {
		if err := put(&Transfer{Peer: ann.Peer, State: Offered, ID: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(&Transfer{Peer: ann.Peer, State: Offered}); !errors.Is(err, ErrFull) {
		t.Error("one too many of one peer:", err)
	}
	for i := MaxOffered; i < MaxTransfers; i++ {
		x := &Transfer{Peer: bob.Peer, Out: true, State: Running}
		switch i {
		case MaxOffered:
			x.State = Offered
		case MaxOffered + 1:
			x.State = Done
		}
		if err := put(x); err != nil {
			t.Fatal(err)
		}
	}
	for i, gone := range []TransferState{Done, Offered} {
		if err := put(&Transfer{Peer: bob.Peer, Out: true, State: Running}); err != nil {
			t.Fatal(i, err)
		}
		update(t, s, func(tx *Tx) error {
			all, err := tx.Transfers()
			if len(all) != MaxTransfers || oldest(all, func(x *Transfer) bool { return x.Out && x.State == gone }) >= 0 {
				t.Errorf("%d transfers, and %v is among them", len(all), gone)
			}
			return err
		})
	}
	if err := put(&Transfer{Peer: bob.Peer, State: Offered}); !errors.Is(err, ErrFull) {
		t.Error("one that would drive out what runs:", err)
	}
}
