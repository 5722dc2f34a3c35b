package store

import (
	"errors"
	"slices"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

// A Room is one that we are in, or were.
type Room struct {
	Chat    protocol.Chat
	Name    string // what we call it
	Members []identity.ID
	Gone    bool // we are no longer in it
	// Left is set when it was we who left, until its creator has said so to all: what he wrote before does not count.
	Left bool `cbor:",omitempty"`
	// Forgotten is set when the person has forgotten it, while Left is.
	Forgotten bool `cbor:",omitempty"`
}

// Has reports whether id is in the room.
func (r *Room) Has(id identity.ID) bool { return slices.Contains(r.Members, id) || id == r.Chat.Peer }

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

// DropRoom forgets a room, what was said in it, and how far its people were.
func (t *Tx) DropRoom(c protocol.Chat) error {
	r, err := t.Room(c)
	if r != nil {
		for _, id := range append(r.Members, c.Peer) {
			err = errors.Join(err, t.DropMark(id, c))
		}
	}
	return errors.Join(err, t.drop(kindRoom, t.chat("room", c)), t.DropHistory(c))
}

// Rooms returns those that a person has not forgotten, in no order.
func (t *Tx) Rooms() ([]Room, error) {
	all, err := t.AllRooms()
	return slices.DeleteFunc(all, func(r Room) bool { return r.Forgotten }), err
}

// AllRooms returns all, in no order.
func (t *Tx) AllRooms() ([]Room, error) { return all[Room](t, kindRoom) }
