package store

import (
	"errors"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

// A Mark says how far a peer and we are in a chat: by IDs of messages, which only grow.
type Mark struct {
	In        uint64 // of his that we have
	Delivered uint64 // of ours that he has
	Read      uint64 // of ours that he has read
	Seen      uint64 // of his that we have read
}

// A Message is one of a history.
type Message struct {
	Number  int64 `cbor:"-"`
	Damaged bool  `cbor:"-"` // nothing else is known
	From    identity.ID
	ID      uint64
	Time    time.Time
	Text    string
	File    *protocol.File
	To      []identity.ID // whom it was sent to, if it is ours
	Failed  string        // why somebody did not get it
}

func (t *Tx) chat(kind string, c protocol.Chat) []byte { return t.s.hash(kind, c.Peer[:], c.Room) }

func (t *Tx) mark(peer identity.ID, c protocol.Chat) []byte {
	return t.s.hash("mark", peer[:], c.Peer[:], c.Room)
}

// Mark returns the mark, which is zero when there is none.
func (t *Tx) Mark(peer identity.ID, c protocol.Chat) (m Mark, err error) {
	_, err = t.get(kindMark, t.mark(peer, c), &m)
	return m, err
}

// PutMark keeps a mark. There are as many as chats have people.
func (t *Tx) PutMark(peer identity.ID, c protocol.Chat, m Mark) error {
	return t.put(kindMark, t.mark(peer, c), m)
}

// DropMark forgets how far a peer was.
func (t *Tx) DropMark(peer identity.ID, c protocol.Chat) error {
	return t.drop(kindMark, t.mark(peer, c))
}

// NextID returns an ID for a message of ours: higher than all before, over restarts too.
func (t *Tx) NextID(now time.Time) (uint64, error) {
	var last uint64
	name := t.s.hash("clock")
	if _, err := t.get(kindMeta, name, &last); err != nil {
		return 0, err
	}
	id := max(last+1, uint64(now.UnixMicro()))
	return id, t.put(kindMeta, name, id)
}

// Log adds a message to a history.
func (t *Tx) Log(c protocol.Chat, m *Message) (err error) {
	owner := t.chat("history", c)
	if m.Number, err = t.push(kindMessage, owner, m); err != nil {
		return err
	}
	if m.Number%weighEvery == 0 {
		if err := t.lighten(kindMessage, owner, MaxHistorySize); err != nil {
			return err
		}
	}
	return t.trim(kindMessage, owner, m.Number, MaxHistory)
}

// weighEvery is how seldom a history is weighed: that takes a look at all of it.
const weighEvery = 64

// Fail notes why a message of ours did not get to somebody.
func (t *Tx) Fail(c protocol.Chat, number int64, why string) error {
	m, owner := new(Message), t.chat("history", c)
	if ok, err := t.at(kindMessage, owner, number, m); err != nil || !ok {
		return err
	}
	m.Failed = why
	return t.set(kindMessage, owner, number, m)
}

// History returns the last n messages, the oldest first. Damaged ones are among them.
func (t *Tx) History(c protocol.Chat, n int) ([]Message, error) {
	rows, err := list[Message](t, kindMessage, t.chat("history", c), 0, n, true)
	return messages(rows), err
}

// Unseen returns the first n messages behind the one that SetSeen named, ours among them.
func (t *Tx) Unseen(c protocol.Chat, n int) ([]Message, error) {
	seen, err := t.seen(c)
	if err != nil {
		return nil, err
	}
	rows, err := list[Message](t, kindMessage, t.chat("history", c), seen, n, false)
	return messages(rows), err
}

func messages(rows []row[Message]) (out []Message) {
	for _, r := range rows {
		m := Message{Number: r.number, Damaged: true}
		if r.v != nil {
			m = *r.v
			m.Number = r.number
		}
		out = append(out, m)
	}
	return out
}

// Logged is how many messages a history has.
func (t *Tx) Logged(c protocol.Chat) (int, error) { return t.length(kindMessage, t.chat("history", c)) }

// DropHistory forgets what was said, and how far it was read.
func (t *Tx) DropHistory(c protocol.Chat) error {
	return errors.Join(t.cutAll(kindMessage, t.chat("history", c)), t.drop(kindMeta, t.chat("seen", c)))
}

func (t *Tx) seen(c protocol.Chat) (number int64, err error) {
	_, err = t.get(kindMeta, t.chat("seen", c), &number)
	return number, err
}

// maxCounted is up to where unread messages are counted exactly.
const maxCounted = 100

// Unread is how many messages of others than self came since SetSeen.
func (t *Tx) Unread(c protocol.Chat, self identity.ID) (n int, err error) {
	seen, err := t.seen(c)
	if err != nil {
		return 0, err
	}
	err = t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM listed WHERE kind = ? AND owner = ? AND number > ?`, int(kindMessage), t.chat("history", c), seen).Scan(&n)
	if err != nil || n == 0 || n > maxCounted {
		return n, err
	}
	unseen, err := t.Unseen(c, n)
	for i := range unseen {
		if unseen[i].From == self {
			n--
		}
	}
	return n, err
}

// SetSeen says that the history was seen up to a number. It never goes back.
func (t *Tx) SetSeen(c protocol.Chat, number int64) error {
	if seen, err := t.seen(c); err != nil || number <= seen {
		return err
	}
	return t.put(kindMeta, t.chat("seen", c), number)
}
