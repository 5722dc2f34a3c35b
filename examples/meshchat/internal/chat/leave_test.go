package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// knows makes others contacts, without a word between them.
func (p *person) knows(others ...*person) {
	p.t.Helper()
	for _, o := range others {
		if err := p.Store.Update(p.t.Context(), func(tx *store.Tx) error {
			c := &store.Contact{ID: o.ID, Standing: store.Friend}
			return errors.Join(rename(tx, c, petname(o.name, "x")), tx.PutContact(c))
		}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// takes is what becomes of messages that o has brought.
func (p *person) takes(o *person, messages ...protocol.Message) []protocol.Status {
	p.t.Helper()
	s, err := p.take(p.t.Context(), o.ID, o.name, &protocol.Batch{Messages: messages})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// carries brings o all that waits for him here, as a courier does.
func (p *person) carries(o *person) (status []protocol.Status) {
	p.t.Helper()
	c := newCourier(p.Engine, o.ID)
	for {
		items, _, _, err := c.next(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		if len(items) == 0 {
			return status
		}
		var batch []protocol.Message
		for _, i := range items {
			batch = append(batch, i.Message)
		}
		s := o.takes(p, batch...)
		status = append(status, s...)
		if err := c.settle(p.t.Context(), items, s); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *person) room(chat protocol.Chat) (out *store.Room) {
	p.t.Helper()
	if err := p.Store.View(p.t.Context(), func(tx *store.Tx) (err error) {
		out, err = tx.Room(chat)
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *person) does(what string, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(p.name, what, err)
	}
}

// threeInARoom are Ann, whose room it is, Bob and Cy.
func threeInARoom(t *testing.T) (ann, bob, cy *person, room protocol.Chat) {
	w := newWorld(t, 0)
	ann, bob, cy = w.person("Ann"), w.person("Bob"), w.person("Cy")
	ann.knows(bob, cy)
	bob.knows(ann)
	cy.knows(ann)
	room, err := ann.CreateRoom(t.Context(), "garden", bob.ID, cy.ID)
	ann.does("makes a room", err)
	ann.carries(bob)
	ann.carries(cy)
	return ann, bob, cy, room
}

// TestLeave: who leaves is out for all, even before the room's creator knows; what the creator wrote before does not put
// him in again, and what he writes after does.
func TestLeave(t *testing.T) {
	ann, bob, cy, room := threeInARoom(t)
	ann.does("removes", ann.SetMember(t.Context(), room, cy.ID, false)) // a word that is under way
	ann.does("adds", ann.SetMember(t.Context(), room, cy.ID, true))
	if err := bob.Forget(t.Context(), room); err == nil {
		t.Error("a room that he is in is forgotten")
	}
	bob.does("leaves", bob.LeaveRoom(t.Context(), room))
	if err := bob.LeaveRoom(t.Context(), room); err == nil {
		t.Error("he leaves twice")
	}
	if err := bob.Send(t.Context(), room, "still here"); err == nil {
		t.Error("he speaks in a room that he has left")
	}
	bob.spawn = func(func(context.Context)) context.CancelFunc { return func() {} }
	for range 2 { // forgotten or not, those who are no contacts are told too
		bob.does("looks for whom something waits", bob.refresh(t.Context()))
		if bob.couriers[cy.ID] == nil {
			t.Error("nobody tells cy")
		}
		clear(bob.couriers)
		bob.does("forgets", bob.Forget(t.Context(), room))
	}
	bob.carries(cy)
	if r := cy.room(room); slices.Contains(r.Members, bob.ID) {
		t.Error("cy does not know:", r)
	}
	ann.carries(bob)
	if r := bob.room(room); !r.Gone || !r.Left {
		t.Errorf("an older word puts him in again: %+v", r)
	}
	if s := bob.takes(cy, protocol.Message{ID: 1 << 60, Room: &room, Text: "are you there?"}); s[0] != protocol.Refused {
		t.Error("he hears on:", s)
	}
	if rooms, err := bob.Rooms(t.Context()); err != nil || len(rooms) != 0 {
		t.Error(rooms, err)
	}
	bob.carries(ann)
	if r := ann.room(room); !slices.Equal(r.Members, []identity.ID{cy.ID}) {
		t.Error("ann does not know:", r)
	}
	ann.carries(cy)
	if r := cy.room(room); !slices.Equal(r.Members, []identity.ID{cy.ID}) {
		t.Error("cy has it otherwise:", r)
	}
	ann.carries(bob)
	if r := bob.room(room); r != nil {
		t.Errorf("what is forgotten is kept: %+v", r)
	}
	ann.does("adds", ann.SetMember(t.Context(), room, bob.ID, true))
	ann.carries(bob)
	if r := bob.room(room); r == nil || r.Gone {
		t.Errorf("he is not in again: %+v", r)
	}
}

// TestClose: a creator who leaves closes his room.
func TestClose(t *testing.T) {
	ann, bob, cy, room := threeInARoom(t)
	ann.does("leaves", ann.LeaveRoom(t.Context(), room))
	for _, p := range []*person{bob, cy} {
		ann.carries(p)
		if r := p.room(room); !r.Gone {
			t.Errorf("%s is in: %+v", p.name, r)
		}
	}
	if err := ann.SetMember(t.Context(), room, bob.ID, true); err == nil {
		t.Error("a closed room gets a member")
	}
	ann.does("forgets", ann.Forget(t.Context(), room))
	if s := ann.takes(bob, protocol.Message{ID: 1 << 60, Room: &room, Text: "x"}); s[0] != protocol.Refused {
		t.Error(s)
	}
}

// TestExpelled: who is blocked or forgotten is out of our rooms, which go on.
func TestExpelled(t *testing.T) {
	ann, bob, cy, room := threeInARoom(t)
	ann.does("blocks", ann.SetStanding(t.Context(), bob.ID, store.Blocked))
	ann.does("forgets", ann.Forget(t.Context(), with(cy)))
	if r := ann.room(room); len(r.Members) != 0 {
		t.Error(r)
	}
	if err := ann.Send(t.Context(), room, "is anybody here?"); err == nil {
		t.Error("a message to nobody is sent")
	}
	dan := ann.w.person("Dan")
	ann.knows(dan)
	ann.does("adds", ann.SetMember(t.Context(), room, dan.ID, true))
}

// TestRoomOfStrangers: what a member writes whom we don't know waits for the word of the creator whom we do; in a room of
// somebody whom we don't know it is refused.
func TestRoomOfStrangers(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob, cy := w.person("Ann"), w.person("Bob"), w.person("Cy")
	ann.knows(bob, cy)
	bob.knows(ann)
	cy.knows(ann)
	room, err := ann.CreateRoom(t.Context(), "garden", bob.ID, cy.ID)
	ann.does("makes a room", err)
	ann.carries(cy)
	cy.says(room, "first")
	if s := cy.carries(bob); !slices.Equal(s, []protocol.Status{protocol.Later}) {
		t.Error("before the word of the creator:", s)
	}
	cy.marked(room, "queued 0/2")
	ann.carries(bob)
	if s := bob.takes(cy, protocol.Message{ID: 1 << 60, Room: &room, Text: "second"}); s[0] != protocol.Taken {
		t.Error("after it:", s)
	}
	if s := bob.takes(cy, protocol.Message{ID: 1 << 60, Room: &protocol.Chat{Peer: cy.ID, Room: 9}, Text: "x"}); s[0] != protocol.Refused {
		t.Error("in a room of a stranger:", s)
	}
}

// TestFullQueue: one for whom too much waits does not keep the others of a room from it.
func TestFullQueue(t *testing.T) {
	ann, bob, cy, room := threeInARoom(t)
	ann.does("fills", ann.Store.Update(t.Context(), func(tx *store.Tx) error {
		for range store.MaxQueue {
			if err := tx.Enqueue(bob.ID, &store.Item{Message: protocol.Message{ID: 1, Text: "x"}}); err != nil {
				return err
			}
		}
		return nil
	}))
	ann.says(room, "hello")
	ann.carries(cy)
	cy.hears(room, "ann: hello")
	ann.marked(room, fmt.Sprintf("failed: bob: %d messages wait for this peer: %v until some are delivered", store.MaxQueue, store.ErrFull))
	ann.does("removes", ann.SetMember(t.Context(), room, bob.ID, false))
	ann.says(room, "without him")
	ann.marked(room, "queued")
}
