package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		unread, err := tx.Unread(chat, e.ID)
		if err != nil {
			return err
		}
		said = &store.Message{From: e.ID, ID: m.ID, Time: now, Text: m.Text, File: m.File, To: to}
		if err := tx.Log(chat, said); err != nil {
			return err
		}
		if err := e.queue(tx, chat, said, m); err != nil {
			return err
		}
		if with != nil {
			if err := with(tx, said); err != nil {
				return err
			}
		}
		if unread > 0 { // what others said before is still to be seen
			return nil
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

// queue has a message wait for all to whom it goes. In a room one for whom too much waits does not keep the others from it.
func (e *Engine) queue(tx *store.Tx, chat protocol.Chat, said *store.Message, m protocol.Message) (err error) {
	full := 0
	for _, id := range said.To {
		err = tx.Enqueue(id, &store.Item{Message: m, Log: said.Number})
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", e.nameIn(tx, id), err)
		if full++; full == len(said.To) || !errors.Is(err, store.ErrFull) {
			return err
		}
		said.Failed = err.Error()
		if err = tx.Fail(chat, said.Number, said.Failed); err != nil {
			return err
		}
	}
	return nil
}

// audience are those to whom a message in the chat goes. In a room that are not those whom we have blocked.
func (e *Engine) audience(tx *store.Tx, chat protocol.Chat) (to []identity.ID, err error) {
	if chat.Room == 0 {
		c, err := tx.Contact(chat.Peer)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
			return nil, ErrUnknown
		case c.Standing != store.Friend:
			return nil, fmt.Errorf("%s is not a contact: /accept %[1]s first", c.Name)
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
	for _, id := range append(without(r.Members, e.ID), chat.Peer) {
		c, err := tx.Contact(id)
		if err != nil {
			return nil, err
		}
		if id != e.ID && (c == nil || c.Standing != store.Blocked) {
			to = append(to, id)
		}
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("nobody else is in #%s", r.Name)
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
func (e *Engine) History(ctx context.Context, chat protocol.Chat, n int) ([]Line, error) {
	return e.lines(ctx, chat, func(tx *store.Tx) ([]store.Message, error) { return tx.History(chat, n) })
}

// Unseen returns what came, and was said, since what MarkRead named.
func (e *Engine) Unseen(ctx context.Context, chat protocol.Chat) ([]Line, error) {
	return e.lines(ctx, chat, func(tx *store.Tx) ([]store.Message, error) { return tx.Unseen(chat, store.MaxHistory) })
}

func (e *Engine) lines(ctx context.Context, chat protocol.Chat, read func(*store.Tx) ([]store.Message, error)) (lines []Line, err error) {
	e.mu.Lock()
	sent := make(map[identity.ID]uint64)
	for id, c := range e.couriers {
		sent[id] = c.sent.Load()
	}
	e.mu.Unlock()
	err = e.Store.View(ctx, func(tx *store.Tx) error {
		marks := make(map[identity.ID]store.Mark)
		names := make(map[identity.ID]string)
		history, err := read(tx)
		if err != nil {
			return err
		}
		for _, m := range history {
			l := Line{Message: m, Mine: m.From == e.ID}
			if names[m.From] == "" && !m.Damaged {
				names[m.From] = e.nameIn(tx, m.From)
			}
			l.Author = names[m.From]
			for _, id := range m.To {
				if _, ok := marks[id]; ok {
					continue
				}
				if marks[id], err = tx.Mark(id, chat); err != nil {
					return err
				}
			}
			l.far(marks, sent)
			lines = append(lines, l)
		}
		return nil
	})
	return lines, err
}

// far says how far the message is: as far as with him who is last.
func (l *Line) far(marks map[identity.ID]store.Mark, sent map[identity.ID]uint64) {
	l.State = Read
	for _, id := range l.To {
		s, mark := Queued, marks[id]
		switch {
		case l.ID <= mark.Read && l.ID <= mark.Delivered: // nobody has read what he has not
			s = Read
		case l.ID <= mark.Delivered:
			s = Delivered
		case l.ID <= sent[id]:
			s = Sent
		}
		if s >= Delivered {
			l.Has++
		}
		l.State = min(l.State, s)
	}
	if l.Failed != "" {
		l.State = Undeliverable
	}
}

// Unread is how many messages of a chat were not seen.
func (e *Engine) Unread(ctx context.Context, chat protocol.Chat) (n int, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		n, err = tx.Unread(chat, e.ID)
		return err
	})
	return n, err
}

// MarkRead notes that a person has seen the lines, which are all that were unseen up to the last of them, and tells the
// peer. In rooms nobody is told.
func (e *Engine) MarkRead(ctx context.Context, chat protocol.Chat, lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	news := false
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetSeen(chat, lines[len(lines)-1].Number); err != nil || chat.Room != 0 {
			return err
		}
		mark, err := tx.Mark(chat.Peer, chat)
		if err != nil {
			return err
		}
		for i := range lines {
			if lines[i].From == chat.Peer && lines[i].ID > mark.Seen {
				mark.Seen, news = lines[i].ID, true
			}
		}
		if !news {
			return nil
		}
		return tx.PutMark(chat.Peer, chat, mark)
	})
	if err == nil && news {
		e.wake(ctx, false, chat.Peer)
	}
	return err
}

// lost notes in the histories what does not wait for a peer any more, because its row was damaged, and did not reach him.
func (e *Engine) lost(tx *store.Tx, peer identity.ID) error {
	waiting, _, err := tx.Queue(peer, 2*store.MaxQueue)
	if err != nil {
		return err
	}
	waits := make(map[uint64]bool)
	for i := range waiting {
		waits[waiting[i].Message.ID] = true
	}
	chats := []protocol.Chat{{Peer: peer}}
	rooms, err := tx.Rooms()
	for i := range rooms {
		if rooms[i].Has(peer) {
			chats = append(chats, rooms[i].Chat)
		}
	}
	for _, chat := range chats {
		mark, markErr := tx.Mark(peer, chat)
		history, histErr := tx.History(chat, store.MaxHistory)
		err = errors.Join(err, markErr, histErr)
		for _, m := range history {
			if m.From == e.ID && m.ID > mark.Delivered && m.Failed == "" && !waits[m.ID] && slices.Contains(m.To, peer) {
				err = errors.Join(err, tx.Fail(chat, m.Number, "what waited for "+e.nameIn(tx, peer)+" was damaged on this disk: say it again"))
			}
		}
	}
	return err
}
