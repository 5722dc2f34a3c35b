package store

import (
	"errors"
	"fmt"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

// An Item waits to be delivered.
type Item struct {
	Number  int64 `cbor:"-"`
	Message protocol.Message
	Log     int64 // of the message in the history; 0: it is in none
}

// Enqueue has a message wait for a peer. What is not for a person to read, such as who is in a room, has room of its own.
func (t *Tx) Enqueue(peer identity.ID, i *Item) (err error) {
	owner, limit := t.s.hash("queue", peer[:]), MaxQueue
	if i.Message.Text == "" && i.Message.File == nil {
		limit = 2 * MaxQueue
	}
	if n, err := t.length(kindQueue, owner); err != nil {
		return err
	} else if n >= limit {
		return fmt.Errorf("%d messages wait for this peer: %w until some are delivered", n, ErrFull)
	}
	i.Number, err = t.push(kindQueue, owner, i)
	return err
}

// Queue returns the first n of what waits for a peer. Damaged ones are taken out, and counted as lost: they can't be
// delivered any more.
func (t *Tx) Queue(peer identity.ID, n int) (out []Item, lost int, err error) {
	owner := t.s.hash("queue", peer[:])
	rows, err := list[Item](t, kindQueue, owner, 0, n, false)
	for _, r := range rows {
		if r.v == nil {
			lost++
			err = errors.Join(err, t.cut(kindQueue, owner, r.number))
			continue
		}
		r.v.Number = r.number
		out = append(out, *r.v)
	}
	return out, lost, err
}

// Queued is how many messages wait for a peer.
func (t *Tx) Queued(peer identity.ID) (int, error) {
	return t.length(kindQueue, t.s.hash("queue", peer[:]))
}

// Dequeue takes a message out.
func (t *Tx) Dequeue(peer identity.ID, number int64) error {
	return t.cut(kindQueue, t.s.hash("queue", peer[:]), number)
}

// DropQueued takes out what waits for a peer and is such.
func (t *Tx) DropQueued(peer identity.ID, such func(*protocol.Message) bool) error {
	all, _, err := t.Queue(peer, 2*MaxQueue)
	for i := range all {
		if such(&all[i].Message) {
			err = errors.Join(err, t.Dequeue(peer, all[i].Number))
		}
	}
	return err
}
