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
	a := newAfter()
	err = e.Store.Update(ctx, func(tx *store.Tx) error {
		rooms, err := tx.Rooms()
		if err != nil {
			return err
		}
		if len(rooms) >= store.MaxRooms {
			return fmt.Errorf("rooms: %w: forget one first", store.ErrFull)
		}
		if slices.ContainsFunc(rooms, func(r store.Room) bool { return r.Name == name }) {
			return fmt.Errorf("there is a room #%s already", name)
		}
		number, err := tx.NextID(time.Now())
		if err != nil {
			return err
		}
		chat = protocol.Chat{Peer: e.ID, Room: number}
		return e.announce(tx, a, &store.Room{Chat: chat, Name: name}, members)
	})
	if err == nil {
		a.run(ctx, e)
	}
	return chat, err
}

// SetMember adds a contact to a room of ours, or removes him.
func (e *Engine) SetMember(ctx context.Context, chat protocol.Chat, id identity.ID, member bool) error {
	a := newAfter()
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		r, err := tx.Room(chat)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrUnknown
		case chat.Peer != e.ID:
			return fmt.Errorf("only %s, who made #%s, changes who is in it", e.nameIn(tx, chat.Peer), r.Name)
		}
		members := slices.DeleteFunc(slices.Clone(r.Members), func(m identity.ID) bool { return m == id })
		if member {
			members = append(members, id)
		}
		return e.announce(tx, a, r, members)
	})
	if err == nil {
		a.run(ctx, e)
	}
	return err
}

// announce gives a room of ours other members, and tells them as well as those who were.
func (e *Engine) announce(tx *store.Tx, a *after, r *store.Room, members []identity.ID) error {
	slices.SortFunc(members, identity.ID.Compare)
	members = slices.Compact(members)
	if len(members) > protocol.MaxMembers {
		return fmt.Errorf("a room has %d members beside you at most", protocol.MaxMembers)
	}
	for _, id := range members {
		if c, err := tx.Contact(id); err != nil {
			return err
		} else if c == nil || c.Standing != store.Friend {
			return errors.New("only contacts can be in a room")
		}
	}
	tell := append(slices.Clone(r.Members), members...)
	slices.SortFunc(tell, identity.ID.Compare)
	tell = slices.Compact(tell)
	r.Members = members
	id, err := tx.NextID(time.Now())
	if err != nil {
		return err
	}
	m := protocol.Message{ID: id, Room: &r.Chat, Members: &protocol.Members{Name: r.Name, IDs: members}}
	for _, peer := range tell {
		if err := tx.Enqueue(peer, &store.Item{Message: m}); err != nil {
			return fmt.Errorf("%s: %w", e.nameIn(tx, peer), err)
		}
		a.wake[peer] = true
	}
	a.events = append(a.events, Event{Kind: People, Chat: r.Chat})
	return tx.PutRoom(r)
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
	case r == nil && !in:
		return protocol.Taken, nil // forgotten here
	case r == nil:
		rooms, err := tx.Rooms()
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
	r.Members, r.Gone = m.Members.IDs, !in
	after.events = append(after.events, Event{Kind: People, Chat: r.Chat, Text: text})
	return protocol.Taken, tx.PutRoom(r)
}

// mayWrite says whether peer may write in the room. If we don't know of it, its creator's word may be on its way.
func (e *Engine) mayWrite(tx *store.Tx, peer identity.ID, friend bool, chat protocol.Chat) (protocol.Status, error) {
	r, err := tx.Room(chat)
	switch {
	case err != nil:
		return 0, err
	case r != nil && !r.Gone && r.Has(peer):
		return protocol.Taken, nil
	case chat.Peer == e.ID: // our own word is known
		return protocol.Refused, nil
	case r != nil && !r.Gone || friend:
		return protocol.Later, nil
	}
	return protocol.Refused, nil
}
