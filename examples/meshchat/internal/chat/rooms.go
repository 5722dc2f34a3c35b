package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Rooms returns all rooms, by name.
func (e *Engine) Rooms(ctx context.Context) (out []store.Room, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		out, err = tx.Rooms()
		return err
	})
	slices.SortFunc(out, func(a, b store.Room) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// CreateRoom makes a room of contacts.
func (e *Engine) CreateRoom(ctx context.Context, name string, members ...identity.ID) (chat protocol.Chat, err error) {
	if !registry.ValidName(name) {
		return chat, fmt.Errorf("%.40q is no name of a room: 1 to %d characters a-z, 0-9 and hyphen", name, registry.MaxName)
	}
	return chat, e.update(ctx, func(tx *store.Tx, a *after) error {
		rooms, err := tx.AllRooms()
		if err != nil {
			return err
		}
		if len(rooms) >= store.MaxRooms {
			return fmt.Errorf("rooms: %w: forget one first", store.ErrFull)
		}
		if slices.ContainsFunc(rooms, func(r store.Room) bool { return r.Name == name && !r.Forgotten }) {
			return fmt.Errorf("there is a room #%s already", name)
		}
		number, err := tx.NextID(time.Now())
		if err != nil {
			return err
		}
		chat = protocol.Chat{Peer: e.ID, Room: number}
		return e.announce(tx, a, &store.Room{Chat: chat, Name: name}, members)
	})
}

// SetMember adds a contact to a room of ours, or removes whoever is in it.
func (e *Engine) SetMember(ctx context.Context, chat protocol.Chat, id identity.ID, member bool) error {
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		r, err := tx.Room(chat)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrUnknown
		case chat.Peer != e.ID:
			return fmt.Errorf("only %s, who made #%s, changes who is in it", e.nameIn(tx, chat.Peer), r.Name)
		case r.Gone:
			return fmt.Errorf("#%s is closed", r.Name)
		case id == e.ID:
			return fmt.Errorf("you are in #%s as long as it is open: leaving closes it", r.Name)
		case member && slices.Contains(r.Members, id):
			return fmt.Errorf("%s is in #%s already", e.nameIn(tx, id), r.Name)
		case !member && !slices.Contains(r.Members, id):
			return fmt.Errorf("%s is not in #%s", e.nameIn(tx, id), r.Name)
		}
		members := without(r.Members, id)
		if member {
			members = append(members, id)
		}
		return e.announce(tx, a, r, members)
	})
}

// LeaveRoom takes us out of a room, and tells all who are in it. A room of ours is closed: nobody is in it then.
func (e *Engine) LeaveRoom(ctx context.Context, chat protocol.Chat) error {
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		r, err := tx.Room(chat)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrUnknown
		case r.Gone:
			return fmt.Errorf("you are no longer in #%s", r.Name)
		case chat.Peer == e.ID:
			r.Gone = true
			return e.announce(tx, a, r, nil)
		}
		id, err := tx.NextID(time.Now())
		if err != nil {
			return err
		}
		r.Gone, r.Left = true, true
		m := protocol.Message{ID: id, Room: &r.Chat, Leave: true}
		for _, peer := range append(without(r.Members, e.ID), chat.Peer) {
			if err := e.enqueue(tx, a, peer, m); err != nil {
				return err
			}
		}
		a.events = append(a.events, Event{Kind: People, Chat: chat})
		return tx.PutRoom(r)
	})
}

// without is a copy of members that lacks one.
func without(members []identity.ID, id identity.ID) []identity.ID {
	return slices.DeleteFunc(slices.Clone(members), func(m identity.ID) bool { return m == id })
}

// enqueue has something wait for a peer that is not for a person to read. Whose queue is full of it does not get it.
func (e *Engine) enqueue(tx *store.Tx, a *after, peer identity.ID, m protocol.Message) error {
	a.wake[peer] = true
	err := tx.Enqueue(peer, &store.Item{Message: m})
	if errors.Is(err, store.ErrFull) {
		e.Log.Warn("not told", "peer", peer.Short(), "err", err)
		return nil
	}
	return err
}

// announce gives a room of ours other members, and tells them as well as those who were.
func (e *Engine) announce(tx *store.Tx, a *after, r *store.Room, members []identity.ID) error {
	members = slices.Clone(members)
	slices.SortFunc(members, identity.ID.Compare)
	members = slices.Compact(members)
	if len(members) > protocol.MaxMembers {
		return fmt.Errorf("a room has %d members beside you at most", protocol.MaxMembers)
	}
	for _, id := range members {
		if slices.Contains(r.Members, id) {
			continue
		}
		if c, err := tx.Contact(id); err != nil {
			return err
		} else if c == nil || c.Standing != store.Friend {
			return fmt.Errorf("%s is no contact, and only contacts can be in a room", e.nameIn(tx, id))
		}
	}
	tell := slices.Concat(r.Members, members)
	slices.SortFunc(tell, identity.ID.Compare)
	r.Members = members
	id, err := tx.NextID(time.Now())
	if err != nil {
		return err
	}
	m := protocol.Message{ID: id, Room: &r.Chat, Members: &protocol.Members{Name: r.Name, IDs: members}}
	for _, peer := range slices.Compact(tell) {
		if err := e.enqueue(tx, a, peer, m); err != nil {
			return err
		}
	}
	a.events = append(a.events, Event{Kind: People, Chat: r.Chat})
	return tx.PutRoom(r)
}

// expel takes somebody out of all rooms of ours.
func (e *Engine) expel(tx *store.Tx, a *after, id identity.ID) error {
	rooms, err := tx.AllRooms()
	for i := range rooms {
		if r := &rooms[i]; err == nil && r.Chat.Peer == e.ID && slices.Contains(r.Members, id) {
			err = e.announce(tx, a, r, without(r.Members, id))
		}
	}
	return err
}

// takeMembers is about who is in a room of peer's. That it is his, nobody can pretend: the room is named by its creator, who
// must be the one that says so.
func (e *Engine) takeMembers(tx *store.Tx, after *after, peer identity.ID, friend bool, m *protocol.Message) (protocol.Status, error) {
	if m.Room.Peer != peer || !friend {
		return protocol.Refused, nil
	}
	r, err := tx.Room(*m.Room)
	if err != nil {
		return 0, err
	}
	in := slices.Contains(m.Members.IDs, e.ID)
	text := ""
	switch {
	case r == nil && !in, r != nil && r.Left && in: // forgotten here; or he does not know yet that we have left
		return protocol.Taken, nil
	case r != nil && r.Forgotten:
		return protocol.Taken, tx.DropRoom(*m.Room)
	case r == nil:
		rooms, err := tx.AllRooms()
		if err != nil {
			return 0, err
		}
		his := 0
		for _, r := range rooms {
			if r.Chat.Peer == peer {
				his++
			}
		}
		if his >= MaxRoomsOf || len(rooms) >= store.MaxRooms {
			return protocol.Refused, nil
		}
		r = &store.Room{Chat: *m.Room}
		if r.Name, err = freeRoom(tx, m.Members.Name); err != nil {
			return 0, err
		}
		text = fmt.Sprintf("%s has put you in the room #%s", e.nameIn(tx, peer), r.Name)
	case !in && !r.Gone:
		text = fmt.Sprintf("%s has removed you from the room #%s", e.nameIn(tx, peer), r.Name)
	case in && r.Gone:
		text = fmt.Sprintf("%s has put you in the room #%s again", e.nameIn(tx, peer), r.Name)
	}
	r.Members, r.Gone, r.Left = m.Members.IDs, !in, false
	after.events = append(after.events, Event{Kind: People, Chat: r.Chat, Text: text})
	return protocol.Taken, tx.PutRoom(r)
}

// takeLeave is about somebody who leaves a room. If it is ours, all are told.
func (e *Engine) takeLeave(tx *store.Tx, after *after, peer identity.ID, room protocol.Chat) error {
	r, err := tx.Room(room)
	if err != nil || r == nil || r.Gone || !slices.Contains(r.Members, peer) {
		return err
	}
	after.events = append(after.events, Event{Kind: People, Chat: room, Text: fmt.Sprintf("%s has left the room #%s", e.nameIn(tx, peer), r.Name)})
	members := without(r.Members, peer)
	if room.Peer == e.ID {
		return e.announce(tx, after, r, members)
	}
	r.Members = members // until its creator says so
	return tx.PutRoom(r)
}

// mayWrite says whether peer may write in the room. If we don't know of it, or of him, its creator's word may be on its way.
func (e *Engine) mayWrite(tx *store.Tx, peer identity.ID, room protocol.Chat) (protocol.Status, error) {
	r, err := tx.Room(room)
	switch {
	case err != nil:
		return 0, err
	case r != nil && !r.Gone && r.Has(peer):
		return protocol.Taken, nil
	case room.Peer == e.ID, r != nil && r.Left: // our own word is known
		return protocol.Refused, nil
	}
	if creator, err := tx.Contact(room.Peer); err != nil || creator == nil || creator.Standing != store.Friend {
		return protocol.Refused, err
	}
	return protocol.Later, nil
}
