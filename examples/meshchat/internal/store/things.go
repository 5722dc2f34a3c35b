package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

// Limits.
const (
	MaxContacts    = 500  // blocked ones and requests included
	MaxRooms       = 256  // of all creators
	MaxHistory     = 5000 // messages of a chat; the oldest go first
	MaxQueue       = 1000 // messages that wait for one peer
	MaxInvitations = 64   // that nobody has used yet; the oldest are forgotten
	MaxTransfers   = 256  // the oldest go first
)

// ErrFull says that a limit is reached.
var ErrFull = errors.New("there is no room for more")

// A Standing is how we stand to somebody.
type Standing uint8

// The standings.
const (
	Request Standing = 1 + iota // wrote to us, and we have not answered
	Friend                      // a contact
	Blocked                     // is not heard
)

// A Contact is somebody we know of.
type Contact struct {
	ID       identity.ID
	Name     string // what we call him
	Nick     string // what he calls himself
	Standing Standing
	Addrs    []string // from his invitation
	Secret   []byte   // of his invitation, until he has seen it
	Verified bool     // the words were compared
}

// A Room is one that we are in, or were.
type Room struct {
	Chat    protocol.Chat
	Name    string // what we call it
	Members []identity.ID
	Gone    bool // we are no longer in it
}

// Has reports whether id is in the room.
func (r *Room) Has(id identity.ID) bool {
	for _, m := range r.Members {
		if m == id {
			return true
		}
	}
	return id == r.Chat.Peer
}

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

// An Item waits to be delivered.
type Item struct {
	Number  int64 `cbor:"-"`
	Message protocol.Message
	Log     int64 // of the message in the history; 0: it is in none
}

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
	Declined
	Failed
)

func (s TransferState) String() string {
	return [...]string{"?", "offered", "running", "done", "declined", "failed"}[min(int(s), 5)]
}

// Contact returns the contact, or nil.
func (t *Tx) Contact(id identity.ID) (*Contact, error) {
	c := new(Contact)
	if ok, err := t.get(kindContact, t.s.hash("contact", id[:]), c); err != nil || !ok {
		return nil, err
	}
	return c, nil
}

// PutContact keeps a contact.
func (t *Tx) PutContact(c *Contact) error {
	if n, err := t.count(kindContact); err != nil {
		return err
	} else if n >= MaxContacts {
		if old, err := t.Contact(c.ID); err != nil {
			return err
		} else if old == nil {
			return fmt.Errorf("contacts: %w: forget one first", ErrFull)
		}
	}
	return t.put(kindContact, t.s.hash("contact", c.ID[:]), c)
}

// DropContact forgets a contact and what was said with him.
func (t *Tx) DropContact(id identity.ID) error {
	chat := protocol.Chat{Peer: id}
	return errors.Join(t.drop(kindContact, t.s.hash("contact", id[:])), t.DropHistory(chat), t.cutAll(kindQueue, t.s.hash("queue", id[:])))
}

// Contacts returns all, in no order.
func (t *Tx) Contacts() ([]Contact, error) { return all[Contact](t, kindContact) }

func (t *Tx) chat(kind string, c protocol.Chat) []byte { return t.s.hash(kind, c.Peer[:], c.Room) }

// Room returns the room, or nil.
func (t *Tx) Room(c protocol.Chat) (*Room, error) {
	r := new(Room)
	if ok, err := t.get(kindRoom, t.chat("room", c), r); err != nil || !ok {
		return nil, err
	}
	return r, nil
}

// PutRoom keeps a room.
func (t *Tx) PutRoom(r *Room) error { return t.put(kindRoom, t.chat("room", r.Chat), r) }

// DropRoom forgets a room and what was said in it.
func (t *Tx) DropRoom(c protocol.Chat) error {
	return errors.Join(t.drop(kindRoom, t.chat("room", c)), t.DropHistory(c))
}

// Rooms returns all, in no order.
func (t *Tx) Rooms() ([]Room, error) { return all[Room](t, kindRoom) }

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
	return t.trim(kindMessage, owner, m.Number, MaxHistory)
}

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
func (t *Tx) History(c protocol.Chat, n int) (out []Message, err error) {
	rows, err := list[Message](t, kindMessage, t.chat("history", c), n, true)
	for _, r := range rows {
		m := Message{Number: r.number, Damaged: true}
		if r.v != nil {
			m = *r.v
			m.Number = r.number
		}
		out = append(out, m)
	}
	return out, err
}

// Logged is how many messages a history has.
func (t *Tx) Logged(c protocol.Chat) (int, error) { return t.length(kindMessage, t.chat("history", c)) }

// DropHistory forgets what was said, and how far it was read.
func (t *Tx) DropHistory(c protocol.Chat) error {
	return errors.Join(t.cutAll(kindMessage, t.chat("history", c)), t.drop(kindMeta, t.chat("seen", c)))
}

// Unread is how many messages came since SetSeen.
func (t *Tx) Unread(c protocol.Chat) (n int, err error) {
	var seen int64
	if _, err := t.get(kindMeta, t.chat("seen", c), &seen); err != nil {
		return 0, err
	}
	err = t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM listed WHERE kind = ? AND owner = ? AND number > ?`, int(kindMessage), t.chat("history", c), seen).Scan(&n)
	return n, err
}

// SetSeen says that the history was read up to a number.
func (t *Tx) SetSeen(c protocol.Chat, number int64) error {
	return t.put(kindMeta, t.chat("seen", c), number)
}

// Enqueue has a message wait for a peer.
func (t *Tx) Enqueue(peer identity.ID, i *Item) (err error) {
	owner := t.s.hash("queue", peer[:])
	if n, err := t.length(kindQueue, owner); err != nil {
		return err
	} else if n >= MaxQueue {
		return fmt.Errorf("%d messages wait for this peer: %w until some are delivered", n, ErrFull)
	}
	i.Number, err = t.push(kindQueue, owner, i)
	return err
}

// Queue returns the first n of what waits for a peer. Damaged ones are taken out: they can't be delivered any more.
func (t *Tx) Queue(peer identity.ID, n int) (out []Item, err error) {
	owner := t.s.hash("queue", peer[:])
	rows, err := list[Item](t, kindQueue, owner, n, false)
	for _, r := range rows {
		if r.v == nil {
			err = errors.Join(err, t.cut(kindQueue, owner, r.number))
			continue
		}
		r.v.Number = r.number
		out = append(out, *r.v)
	}
	return out, err
}

// Queued is how many messages wait for a peer.
func (t *Tx) Queued(peer identity.ID) (int, error) {
	return t.length(kindQueue, t.s.hash("queue", peer[:]))
}

// Dequeue takes a message out.
func (t *Tx) Dequeue(peer identity.ID, number int64) error {
	return t.cut(kindQueue, t.s.hash("queue", peer[:]), number)
}

// PutTransfer keeps a transfer, a new one if it has no number.
func (t *Tx) PutTransfer(x *Transfer) (err error) {
	owner := t.s.hash("transfers")
	if x.Number != 0 {
		return t.set(kindTransfer, owner, x.Number, x)
	}
	if x.Number, err = t.push(kindTransfer, owner, x); err != nil {
		return err
	}
	return t.trim(kindTransfer, owner, x.Number, MaxTransfers)
}

// Transfers returns all, the oldest first.
func (t *Tx) Transfers() (out []Transfer, err error) {
	rows, err := list[Transfer](t, kindTransfer, t.s.hash("transfers"), MaxTransfers, true)
	for _, r := range rows {
		if r.v != nil {
			r.v.Number = r.number
			out = append(out, *r.v)
		}
	}
	return out, err
}

// An invitation that somebody may use until it expires.
type invitation struct {
	Secret  []byte
	Expires time.Time
}

// PutInvitation keeps the secret of an invitation.
func (t *Tx) PutInvitation(secret []byte, expires time.Time) error {
	open, err := all[invitation](t, kindInvitation)
	if err != nil {
		return err
	}
	var oldest *invitation
	for i := range open {
		if oldest == nil || open[i].Expires.Before(oldest.Expires) {
			oldest = &open[i]
		}
	}
	if len(open) >= MaxInvitations {
		if err := t.drop(kindInvitation, t.s.hash("invitation", oldest.Secret)); err != nil {
			return err
		}
	}
	return t.put(kindInvitation, t.s.hash("invitation", secret), invitation{secret, expires})
}

// UseInvitation reports whether the secret is that of an invitation, which it uses up. What is compared is a keyed hash, so
// the time it takes says nothing.
func (t *Tx) UseInvitation(secret []byte, now time.Time) (bool, error) {
	v, name := new(invitation), t.s.hash("invitation", secret)
	if ok, err := t.get(kindInvitation, name, v); err != nil || !ok {
		return false, err
	}
	return now.Before(v.Expires), t.drop(kindInvitation, name)
}
