package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// Send says something in a chat: it is on the disk and will be delivered.
func (e *Engine) Send(ctx context.Context, chat protocol.Chat, text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("there is nothing to send")
	case len(text) > protocol.MaxText:
		return fmt.Errorf("the message has %d bytes, and %d are allowed: send it as a file", len(text), protocol.MaxText)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return errors.New("the message is no text: send it as a file")
	}
	_, err := e.say(ctx, chat, protocol.Message{Text: text}, nil)
	return err
}

// say queues a message for everybody in the chat and puts it in the history. with may add to the transaction.
func (e *Engine) say(ctx context.Context, chat protocol.Chat, m protocol.Message, with func(*store.Tx, *store.Message) error) (*store.Message, error) {
	var said *store.Message
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		to, err := e.audience(tx, chat)
		if err != nil {
			return err
		}
		now := time.Now()
		if m.ID, err = tx.NextID(now); err != nil {
			return err
		}
		if chat.Room != 0 {
			m.Room = &chat
		}
		said = &store.Message{From: e.ID, ID: m.ID, Time: now, Text: m.Text, File: m.File, To: to}
		if err := tx.Log(chat, said); err != nil {
			return err
		}
		for _, id := range to {
			if err := tx.Enqueue(id, &store.Item{Message: m, Log: said.Number}); err != nil {
				return fmt.Errorf("%s: %w", e.nameIn(tx, id), err)
			}
		}
		if with != nil {
			if err := with(tx, said); err != nil {
				return err
			}
		}
		return tx.SetSeen(chat, said.Number)
	})
	if err != nil {
		return nil, err
	}
	e.wake(ctx, false, said.To...)
	e.publish(Event{Kind: Said, Chat: chat, Message: said})
	return said, nil
}

// audience are those to whom a message in the chat goes.
func (e *Engine) audience(tx *store.Tx, chat protocol.Chat) (to []identity.ID, err error) {
	if chat.Room == 0 {
		c, err := tx.Contact(chat.Peer)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
			return nil, ErrUnknown
		case c.Standing != store.Friend:
			return nil, fmt.Errorf("%s is not a contact: accept the request first", c.Name)
		}
		return []identity.ID{chat.Peer}, nil
	}
	r, err := tx.Room(chat)
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, ErrUnknown
	case r.Gone:
		return nil, fmt.Errorf("you are no longer in #%s", r.Name)
	}
	for _, id := range append([]identity.ID{chat.Peer}, r.Members...) {
		if id != e.ID {
			to = append(to, id)
		}
	}
	return to, nil
}

// A State is how far a message of ours is.
type State int

// The states, each implying the one before.
const (
	Queued State = iota
	Sent
	Delivered
	Read
	Undeliverable
)

func (s State) String() string {
	return [...]string{"queued", "sent", "delivered", "read", "failed"}[s]
}

// A Line is a message of a history with what is known of it.
type Line struct {
	store.Message
	Author string
	Mine   bool
	State  State // of ours
	Has    int   // how many of To have it
}

// Mark is what stands behind a message of ours.
func (l *Line) Mark() string {
	switch {
	case !l.Mine:
		return ""
	case l.Failed != "":
		return "failed: " + l.Failed
	case len(l.To) > 1:
		return fmt.Sprintf("%v %d/%d", l.State, l.Has, len(l.To))
	}
	return l.State.String()
}

// History returns the last n messages, the oldest first.
func (e *Engine) History(ctx context.Context, chat protocol.Chat, n int) (lines []Line, err error) {
	e.mu.Lock()
	sent := make(map[identity.ID]uint64)
	for id, c := range e.couriers {
		sent[id] = c.sent.Load()
	}
	e.mu.Unlock()
	err = e.Store.View(ctx, func(tx *store.Tx) error {
		marks := make(map[identity.ID]store.Mark)
		names := make(map[identity.ID]string)
		history, err := tx.History(chat, n)
		if err != nil {
			return err
		}
		for _, m := range history {
			l := Line{Message: m, Mine: m.From == e.ID}
			if names[m.From] == "" {
				names[m.From] = e.nameIn(tx, m.From)
			}
			l.Author = names[m.From]
			least := Read
			for _, id := range m.To {
				mark, ok := marks[id]
				if !ok {
					if mark, err = tx.Mark(id, chat); err != nil {
						return err
					}
					marks[id] = mark
				}
				s := Queued
				switch {
				case m.ID <= mark.Read && m.ID <= mark.Delivered: // nobody has read what he has not
					s = Read
				case m.ID <= mark.Delivered:
					s = Delivered
				case m.ID <= sent[id]:
					s = Sent
				}
				if s >= Delivered {
					l.Has++
				}
				least = min(least, s)
			}
			if l.State = least; m.Failed != "" {
				l.State = Undeliverable
			}
			lines = append(lines, l)
		}
		return nil
	})
	return lines, err
}

// Unread is how many messages of a chat were not seen.
func (e *Engine) Unread(ctx context.Context, chat protocol.Chat) (n int, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		n, err = tx.Unread(chat)
		return err
	})
	return n, err
}

// MarkRead notes that a person has seen what is in the chat, and tells the peer. In rooms nobody is told.
func (e *Engine) MarkRead(ctx context.Context, chat protocol.Chat) error {
	news := false
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		n, err := tx.Unread(chat)
		if err != nil || n == 0 {
			return err
		}
		history, err := tx.History(chat, min(n, store.MaxHistory))
		if err != nil || len(history) == 0 {
			return err
		}
		if err := tx.SetSeen(chat, history[len(history)-1].Number); err != nil || chat.Room != 0 {
			return err
		}
		mark, err := tx.Mark(chat.Peer, chat)
		if err != nil {
			return err
		}
		for _, m := range history {
			if m.From == chat.Peer && m.ID > mark.Seen {
				mark.Seen, news = m.ID, true
			}
		}
		return tx.PutMark(chat.Peer, chat, mark)
	})
	if err == nil && news {
		e.wake(ctx, false, chat.Peer)
	}
	return err
}
