package chat

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// ErrUnknown says that nobody is called so.
var ErrUnknown = errors.New("no contact, request or room is called so")

// Contacts returns all contacts, requests and blocked peers, by name.
func (e *Engine) Contacts(ctx context.Context) (out []store.Contact, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		out, err = tx.Contacts()
		return err
	})
	slices.SortFunc(out, func(a, b store.Contact) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// Invite makes an invitation with the addresses, and a secret that is good once.
func (e *Engine) Invite(ctx context.Context, addrs []multiaddr.Multiaddr) (*contact.Invitation, error) {
	v := &contact.Invitation{ID: e.ID, Addrs: addrs, Nick: e.Nick, Secret: make([]byte, protocol.SecretSize)}
	rand.Read(v.Secret)
	return v, e.Store.Update(ctx, func(tx *store.Tx) error {
		return tx.PutInvitation(v.Secret, time.Now().Add(invitationLasts))
	})
}

// Join makes who sent the invitation a contact, who is called name, or else after what he calls himself.
func (e *Engine) Join(ctx context.Context, text, name string) (c *store.Contact, err error) {
	v, err := contact.Parse(text)
	if err != nil {
		return nil, err
	}
	if v.ID == e.ID {
		return nil, errors.New("this invitation is your own: send it to somebody")
	}
	err = e.Store.Update(ctx, func(tx *store.Tx) error {
		if c, err = tx.Contact(v.ID); err != nil {
			return err
		}
		if c == nil {
			c = &store.Contact{ID: v.ID, Nick: v.Nick}
		}
		if name != "" || c.Name == "" {
			if err := rename(tx, c, name); err != nil {
				return err
			}
		}
		c.Standing, c.Secret, c.Addrs = store.Friend, v.Secret, nil
		for _, a := range v.Addrs {
			c.Addrs = append(c.Addrs, a.String())
		}
		return tx.PutContact(c)
	})
	if err != nil {
		return nil, err
	}
	signal(e.changed) // its addresses may be new
	e.publish(Event{Kind: People})
	return c, nil
}

// meet is what Hello leads to. It reports whether the peer is a contact.
func (e *Engine) meet(ctx context.Context, peer identity.ID, h *protocol.Hello) (known bool, err error) {
	var met *store.Contact
	err = e.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := tx.Contact(peer)
		if err != nil {
			return err
		}
		known = c != nil && c.Standing == store.Friend
		if known || h.Secret == nil || c != nil && c.Standing == store.Blocked {
			return nil
		}
		if ok, err := tx.UseInvitation(h.Secret, time.Now()); err != nil || !ok {
			return err
		}
		if c == nil {
			c = &store.Contact{ID: peer, Nick: h.Nick}
			if c.Name, err = freeName(tx, h.Nick, peer); err != nil {
				return err
			}
		}
		c.Standing = store.Friend
		known, met = true, c
		return tx.PutContact(c)
	})
	if err == nil && met != nil {
		e.publish(Event{Kind: People, Chat: protocol.Chat{Peer: peer}, Text: met.Name + " has joined by your invitation"})
	}
	return known, err
}

// change changes a contact.
func (e *Engine) change(ctx context.Context, id identity.ID, f func(*store.Tx, *store.Contact) error) error {
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := tx.Contact(id)
		if err != nil {
			return err
		}
		if c == nil {
			return ErrUnknown
		}
		if err := f(tx, c); err != nil {
			return err
		}
		return tx.PutContact(c)
	})
	if err == nil {
		e.wake(ctx, false)
		e.publish(Event{Kind: People, Chat: protocol.Chat{Peer: id}})
	}
	return err
}

// SetStanding makes somebody a contact, or blocks him.
func (e *Engine) SetStanding(ctx context.Context, id identity.ID, s store.Standing) error {
	return e.change(ctx, id, func(_ *store.Tx, c *store.Contact) error {
		c.Standing = s
		return nil
	})
}

// Verified notes that the words were compared.
func (e *Engine) Verified(ctx context.Context, id identity.ID) error {
	return e.change(ctx, id, func(_ *store.Tx, c *store.Contact) error {
		c.Verified = true
		return nil
	})
}

// Rename gives a contact another petname, or a room.
func (e *Engine) Rename(ctx context.Context, chat protocol.Chat, name string) error {
	if chat.Room == 0 {
		return e.change(ctx, chat.Peer, func(tx *store.Tx, c *store.Contact) error { return rename(tx, c, name) })
	}
	return e.Store.Update(ctx, func(tx *store.Tx) error {
		r, err := tx.Room(chat)
		if err == nil && r == nil {
			err = ErrUnknown
		}
		if err != nil {
			return err
		}
		if r.Name, err = freeRoom(tx, name); err != nil {
			return err
		}
		return tx.PutRoom(r)
	})
}

// Forget forgets a contact or a room, and what was said there.
func (e *Engine) Forget(ctx context.Context, chat protocol.Chat) error {
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		if chat.Room == 0 {
			return tx.DropContact(chat.Peer)
		}
		return tx.DropRoom(chat)
	})
	if err == nil {
		e.wake(ctx, false)
		e.publish(Event{Kind: People, Chat: chat})
	}
	return err
}

// Resolve finds a chat by what a person calls it: a petname, an ID, or # and the name of a room.
func (e *Engine) Resolve(ctx context.Context, name string) (chat protocol.Chat, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) error {
		if room, ok := strings.CutPrefix(name, "#"); ok {
			rooms, err := tx.Rooms()
			for _, r := range rooms {
				if r.Name == room {
					chat = r.Chat
				}
			}
			return err
		}
		people, err := tx.Contacts()
		for _, c := range people {
			if c.Name == name || c.ID.String() == name || c.ID.PeerID() == name {
				chat.Peer = c.ID
			}
		}
		return err
	})
	if err == nil && chat.Peer.IsZero() {
		err = fmt.Errorf("%.80q: %w", name, ErrUnknown)
	}
	return chat, err
}

// Name is what a person calls a peer.
func (e *Engine) Name(ctx context.Context, id identity.ID) (name string) {
	err := e.Store.View(ctx, func(tx *store.Tx) error {
		name = e.nameIn(tx, id)
		return nil
	})
	if err != nil {
		return id.Short()
	}
	return name
}

func (e *Engine) nameIn(tx *store.Tx, id identity.ID) string {
	if id == e.ID {
		return "me"
	}
	if c, err := tx.Contact(id); err == nil && c != nil {
		return c.Name
	}
	return id.Short()
}

// ChatName is what a person calls a chat.
func (e *Engine) ChatName(ctx context.Context, chat protocol.Chat) (name string) {
	if chat.Room == 0 {
		return e.Name(ctx, chat.Peer)
	}
	name = "#?"
	_ = e.Store.View(ctx, func(tx *store.Tx) error { // then it has no name
		r, err := tx.Room(chat)
		if r != nil {
			name = "#" + r.Name
		}
		return err
	})
	return name
}

// rename gives a contact a name that nobody else has; an empty one is made from what he calls himself.
func rename(tx *store.Tx, c *store.Contact, name string) (err error) {
	if name == "" {
		c.Name, err = freeName(tx, c.Nick, c.ID)
		return err
	}
	if !registry.ValidName(name) {
		return fmt.Errorf("%.40q is no petname: 1 to %d characters a-z, 0-9 and hyphen", name, registry.MaxName)
	}
	people, err := tx.Contacts()
	for _, p := range people {
		if p.Name == name && p.ID != c.ID {
			return fmt.Errorf("somebody else is called %s already", name)
		}
	}
	c.Name = name
	return err
}

// freeName is a petname after what somebody calls himself, or after his ID.
func freeName(tx *store.Tx, nick string, id identity.ID) (string, error) {
	people, err := tx.Contacts()
	return unique(petname(nick, "peer-"+id.Short()), func(name string) bool {
		return slices.ContainsFunc(people, func(c store.Contact) bool { return c.Name == name })
	}), err
}

func freeRoom(tx *store.Tx, name string) (string, error) {
	rooms, err := tx.Rooms()
	return unique(petname(name, "room"), func(name string) bool {
		return slices.ContainsFunc(rooms, func(r store.Room) bool { return r.Name == name })
	}), err
}

func unique(name string, taken func(string) bool) string {
	out := name
	for n := 2; taken(out); n++ {
		out = fmt.Sprintf("%s-%d", name, n)
	}
	return out
}

// petname makes a name of what somebody else has written.
func petname(text, otherwise string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, text)
	if name = strings.Trim(name[:min(len(name), registry.MaxName-6)], "-"); registry.ValidName(name) {
		return name
	}
	return otherwise
}
