package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// converse takes what a peer brings.
func (e *Engine) converse(ctx context.Context, conn *incoming, peer identity.ID) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err := e.listen(ctx, conn, peer)
	conn.Close()
	e.mu.Lock()
	if e.conns[peer] == conn {
		delete(e.conns, peer)
	}
	e.mu.Unlock()
	if ctx.Err() == nil {
		e.Log.Debug("a conn ended", "peer", peer.Short(), "err", err)
		e.publish(Event{Kind: People})
	}
}

func (e *Engine) listen(ctx context.Context, conn *incoming, peer identity.ID) error {
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	h := new(protocol.Hello)
	if err := protocol.Read(conn, protocol.MaxHello, h); err != nil {
		return err
	}
	if h.Version != protocol.Version { // who can't be understood uses up no invitation
		return errors.Join(fmt.Errorf("the peer speaks version %d of the chat protocol", h.Version), protocol.Write(conn, &protocol.Welcome{Version: protocol.Version}))
	}
	friend, err := e.meet(ctx, peer, h)
	if err != nil {
		return err
	}
	if err := protocol.Write(conn, &protocol.Welcome{Version: protocol.Version, Known: friend}); err != nil {
		return err
	}
	if friend {
		e.mu.Lock()
		conn.known = true
		e.mu.Unlock()
		e.wake(ctx, true, peer) // he is back
		e.publish(Event{Kind: People})
	}
	_ = conn.SetDeadline(time.Time{})
	for {
		if !conn.known { // only this goroutine changes it
			_ = conn.SetReadDeadline(time.Now().Add(strangerIdle))
		}
		b := new(protocol.Batch)
		if err := protocol.Read(conn, protocol.MaxFrame, b); err != nil {
			return err
		}
		status, err := e.take(ctx, peer, h.Nick, b)
		if err != nil {
			e.notKept(ctx, err)
			return err
		}
		_ = conn.SetWriteDeadline(time.Now().Add(answerTimeout))
		if err := protocol.Write(conn, &protocol.Answer{Status: status}); err != nil {
			return err
		}
		if err := e.pace(peer).WaitN(ctx, max(len(b.Messages), 1)); err != nil {
			return err
		}
	}
}

// take takes a batch as a whole: what it returns is on the disk.
func (e *Engine) take(ctx context.Context, peer identity.ID, nick string, b *protocol.Batch) (status []protocol.Status, err error) {
	var after *after
	err = e.Store.Update(ctx, func(tx *store.Tx) error {
		status, after = nil, newAfter()
		late := make(map[protocol.Chat]bool)
		for i := range b.Messages {
			m := &b.Messages[i]
			chat := m.In(peer)
			s := protocol.Later
			if !late[chat] { // what was written after a message that is put off, is put off too
				if s, err = e.takeOne(tx, after, peer, nick, m); err != nil {
					return err
				}
			}
			late[chat] = s == protocol.Later
			status = append(status, s)
		}
		if b.Read == 0 {
			return nil
		}
		direct := protocol.Chat{Peer: peer}
		mark, err := tx.Mark(peer, direct)
		if err == nil && b.Read > mark.Read { // it may come before we have noted that he has it
			mark.Read = b.Read
			err = tx.PutMark(peer, direct, mark)
			after.events = append(after.events, Event{Kind: Marked, Chat: direct})
		}
		return err
	})
	if err == nil {
		after.run(ctx, e)
	}
	return status, err
}

// An after is what is to be done when a transaction has succeeded.
type after struct {
	events []Event
	wake   map[identity.ID]bool
	then   []func(context.Context)
}

func newAfter() *after { return &after{wake: make(map[identity.ID]bool)} }

func (a *after) run(ctx context.Context, e *Engine) {
	for _, f := range a.then {
		f(ctx)
	}
	if len(a.wake) > 0 {
		var peers []identity.ID
		for id := range a.wake {
			peers = append(peers, id)
		}
		e.wake(ctx, false, peers...)
	}
	e.publish(a.events...)
}

// takeOne says what becomes of a message, and keeps it.
func (e *Engine) takeOne(tx *store.Tx, after *after, peer identity.ID, nick string, m *protocol.Message) (protocol.Status, error) {
	chat := m.In(peer)
	mark, err := tx.Mark(peer, chat)
	if err != nil {
		return 0, err
	}
	if m.ID <= mark.In {
		return protocol.Taken, nil // again
	}
	contact, err := tx.Contact(peer)
	if err != nil {
		return 0, err
	}
	friend := contact != nil && contact.Standing == store.Friend
	var s protocol.Status
	switch {
	case contact != nil && contact.Standing == store.Blocked:
		return protocol.Refused, nil
	case m.Members != nil:
		s, err = e.takeMembers(tx, after, peer, friend, m)
	case m.Leave:
		s, err = protocol.Taken, e.takeLeave(tx, after, peer, *m.Room)
	case m.Room != nil:
		s, err = e.mayWrite(tx, peer, *m.Room)
	case m.Reply != nil:
		s, err = e.takeReply(tx, after, peer, m.Reply)
	case !friend:
		s, err = e.hold(tx, after, peer, contact, nick, m)
	default:
		s = protocol.Taken
	}
	if err != nil || s != protocol.Taken {
		return s, err
	}
	if m.Text != "" || m.File != nil {
		err := e.logged(tx, after, chat, peer, friend, m)
		if errors.Is(err, store.ErrFull) {
			return protocol.Refused, nil
		}
		if err != nil {
			return 0, err
		}
	}
	if chat.Room != 0 { // of rooms that are not here nothing is kept: their numbers are endless
		if r, err := tx.Room(chat); err != nil || r == nil {
			return s, err
		}
	}
	mark.In = m.ID
	return s, tx.PutMark(peer, chat, mark)
}

// logged keeps a message that came.
func (e *Engine) logged(tx *store.Tx, after *after, chat protocol.Chat, peer identity.ID, friend bool, m *protocol.Message) error {
	written := time.UnixMicro(int64(m.ID))
	if now := time.Now(); written.After(now) { // his clock is not ours
		written = now
	}
	said := &store.Message{From: peer, ID: m.ID, Time: written, Text: m.Text, File: m.File}
	x := &store.Transfer{Peer: peer, ID: m.ID, Chat: chat, State: store.Offered}
	if m.File != nil {
		x.Name, x.Size = safeName(m.File.Name), m.File.Size
		if err := tx.PutTransfer(x); err != nil {
			return err
		}
	}
	if err := tx.Log(chat, said); err != nil {
		return err
	}
	after.events = append(after.events, Event{Kind: Said, Chat: chat, Message: said})
	if m.File == nil {
		return nil
	}
	after.events = append(after.events, Event{Kind: Filed, Chat: chat, Transfer: x})
	if friend && e.AutoAccept > 0 && x.Size <= e.AutoAccept && e.roomFor(10*x.Size) == nil {
		return e.acceptIn(tx, after, x)
	}
	return nil
}

// hold keeps a stranger's message until it is known whether he is welcome.
func (e *Engine) hold(tx *store.Tx, after *after, peer identity.ID, contact *store.Contact, nick string, m *protocol.Message) (protocol.Status, error) {
	if m.Text == "" {
		return protocol.Refused, nil
	}
	if contact == nil {
		people, err := tx.Contacts()
		if err != nil {
			return 0, err
		}
		requests := 0
		for _, c := range people {
			if c.Standing == store.Request {
				requests++
			}
		}
		if requests >= MaxRequests || len(people) >= store.MaxContacts {
			return protocol.Later, nil
		}
		c := &store.Contact{ID: peer, Nick: nick, Standing: store.Request}
		if c.Name, err = freeName(tx, nick, peer); err != nil {
			return 0, err
		}
		after.events = append(after.events, Event{Kind: People, Chat: protocol.Chat{Peer: peer}, Text: c.Name + " asks to be a contact"})
		return protocol.Taken, tx.PutContact(c)
	}
	if n, err := tx.Logged(protocol.Chat{Peer: peer}); err != nil || n >= MaxHeld {
		return protocol.Later, err
	}
	return protocol.Taken, nil
}
