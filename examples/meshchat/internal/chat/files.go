package chat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// A File is a transfer with what is known of it.
type File struct {
	store.Transfer
	Done int64 // bytes, while it runs
}

// Files returns all transfers, the oldest first.
func (e *Engine) Files(ctx context.Context) (out []File, err error) {
	var all []store.Transfer
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		all, err = tx.Transfers()
		return err
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range all {
		f := File{Transfer: x}
		if p := e.moving[x.Number]; p != nil {
			f.Done = p.done.Load()
		}
		if x.State == store.Done {
			f.Done = x.Size
		}
		out = append(out, f)
	}
	return out, err
}

// SendFile offers the file at path to everybody in the chat. It is read when they have accepted it, so it must stay.
func (e *Engine) SendFile(ctx context.Context, chat protocol.Chat, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	case info.Size() > protocol.MaxFileSize:
		return fmt.Errorf("%s has %d bytes, and %d at most can be sent", path, info.Size(), int64(protocol.MaxFileSize))
	}
	name := safeName(filepath.Base(path))
	_, err = e.say(ctx, chat, protocol.Message{File: &protocol.File{Name: name, Size: info.Size()}}, func(tx *store.Tx, m *store.Message) error {
		for _, id := range m.To {
			x := &store.Transfer{Peer: id, ID: m.ID, Chat: chat, Out: true, Name: name, Size: info.Size(), Path: path, State: store.Offered}
			if err := tx.PutTransfer(x); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// transfer changes the transfer with the number.
func (e *Engine) transfer(ctx context.Context, number int64, f func(*store.Tx, *after, *store.Transfer) error) error {
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		all, err := tx.Transfers()
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].Number == number {
				return f(tx, a, &all[i])
			}
		}
		return fmt.Errorf("there is no file %d", number)
	})
}

// AcceptFile has a file that was offered be sent; it comes into the directory of files.
func (e *Engine) AcceptFile(ctx context.Context, number int64) error {
	return e.transfer(ctx, number, func(tx *store.Tx, a *after, x *store.Transfer) error {
		if x.Out || x.State == store.Done || x.State == store.Running || x.State == store.Withdrawn {
			return fmt.Errorf("file %d is %v: there is nothing to accept", number, x.State)
		}
		if err := e.roomFor(x.Size); err != nil {
			return err
		}
		return e.acceptIn(tx, a, x)
	})
}

// DropFile declines or ends a transfer.
func (e *Engine) DropFile(ctx context.Context, number int64) error {
	return e.transfer(ctx, number, func(tx *store.Tx, a *after, x *store.Transfer) error {
		if x.State == store.Done || x.State == store.Withdrawn {
			return fmt.Errorf("file %d is %v", number, x.State)
		}
		if err := e.reply(tx, a, x, false); err != nil {
			return err
		}
		return e.settleFile(tx, a, x, dropped(x), "")
	})
}

// dropped is the state of a transfer that its person here has ended.
func dropped(x *store.Transfer) store.TransferState {
	if x.Out {
		return store.Withdrawn
	}
	return store.Declined
}

// dropFiles ends the transfers to and from somebody who is no longer a contact, without a word.
func (e *Engine) dropFiles(tx *store.Tx, a *after, peer identity.ID) error {
	all, err := tx.Transfers()
	for i := range all {
		if x := &all[i]; x.Peer == peer && x.State != store.Done {
			err = errors.Join(err, e.settleFile(tx, a, x, dropped(x), ""))
		}
	}
	return err
}

func (e *Engine) acceptIn(tx *store.Tx, a *after, x *store.Transfer) error {
	x.State, x.Why = store.Running, ""
	if err := tx.PutTransfer(x); err != nil {
		return err
	}
	moved := *x
	a.then = append(a.then, func(context.Context) { e.move(&moved) })
	a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: &moved})
	return e.reply(tx, a, x, true)
}

func (e *Engine) reply(tx *store.Tx, a *after, x *store.Transfer, accepted bool) error {
	id, err := tx.NextID(time.Now())
	if err != nil {
		return err
	}
	a.wake[x.Peer] = true
	return tx.Enqueue(x.Peer, &store.Item{Message: protocol.Message{ID: id, Reply: &protocol.Reply{ID: x.ID, Accepted: accepted, Mine: x.Out}}})
}

// takeReply is about a file that we have offered to peer, or he to us.
func (e *Engine) takeReply(tx *store.Tx, a *after, peer identity.ID, r *protocol.Reply) (protocol.Status, error) {
	all, err := tx.Transfers()
	if err != nil {
		return 0, err
	}
	for i := range all {
		x := &all[i]
		if x.Out == r.Mine || x.Peer != peer || x.ID != r.ID || x.State == store.Done || x.State == store.Withdrawn {
			continue
		}
		switch {
		case r.Mine:
			return protocol.Taken, e.settleFile(tx, a, x, store.Withdrawn, "")
		case !r.Accepted:
			return protocol.Taken, e.settleFile(tx, a, x, store.Declined, "")
		}
		x.State, x.Why = store.Running, ""
		a.then = append(a.then, func(context.Context) { e.move(x) })
		a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: x})
		return protocol.Taken, tx.PutTransfer(x)
	}
	return protocol.Refused, nil
}

// settleFile ends a transfer.
func (e *Engine) settleFile(tx *store.Tx, a *after, x *store.Transfer, s store.TransferState, why string) error {
	x.State, x.Why = s, why
	ended := *x
	a.then = append(a.then, func(context.Context) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if p := e.moving[ended.Number]; p != nil {
			p.stop()
		}
	})
	a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: &ended})
	return tx.PutTransfer(x)
}
