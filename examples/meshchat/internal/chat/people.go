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

// CancelInvitations has those that nobody has used be good no more, and returns how many they were.
func (e *Engine) CancelInvitations(ctx context.Context) (n int, err error) {
	err = e.Store.Update(ctx, func(tx *store.Tx) (err error) {
		n, err = tx.DropInvitations()
		return err
	})
	return n, err
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
		if h.Secret == nil || c != nil && c.Standing == store.Blocked {
			return nil
		}
		// It is used up by a contact too: it was for him.
		if ok, err := tx.UseInvitation(h.Secret, time.Now()); err != nil || !ok || known {
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

// update runs f in a transaction, and then does what it has left to be done.
func (e *Engine) update(ctx context.Context, f func(*store.Tx, *after) error) error {
	a := newAfter()
	err := e.Store.Update(ctx, func(tx *store.Tx) error { return f(tx, a) })
	if err == nil {
		a.run(ctx, e)
	}
	return err
}

// change changes a contact.
func (e *Engine) change(ctx context.Context, id identity.ID, f func(*store.Tx, *after, *store.Contact) error) error {
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		c, err := tx.Contact(id)
		if err != nil {
			return err
		}
		if c == nil {
			return ErrUnknown
		}
		if err := f(tx, a, c); err != nil {
			return err
		}
		a.wake[id] = true
		a.events = append(a.events, Event{Kind: People, Chat: protocol.Chat{Peer: id}})
		return tx.PutContact(c)
	})
}

// SetStanding makes somebody a contact, or blocks him: then he is out of our rooms, and no file goes to or fro.
func (e *Engine) SetStanding(ctx context.Context, id identity.ID, s store.Standing) error {
	return e.change(ctx, id, func(tx *store.Tx, a *after, c *store.Contact) error {
		c.Standing = s
		if s != store.Blocked {
			return nil
		}
		return errors.Join(e.expel(tx, a, id), e.dropFiles(tx, a, id))
	})
}

// Verified notes that the words were compared.
func (e *Engine) Verified(ctx context.Context, id identity.ID) error {
	return e.change(ctx, id, func(_ *store.Tx, _ *after, c *store.Contact) error {
		c.Verified = true
		return nil
	})
}

// Rename gives a contact another petname, or a room.
func (e *Engine) Rename(ctx context.Context, chat protocol.Chat, name string) error {
	if chat.Room == 0 {
		return e.change(ctx, chat.Peer, func(tx *store.Tx, _ *after, c *store.Contact) error { return rename(tx, c, name) })
	}
	if !registry.ValidName(name) {
		return fmt.Errorf("%.40q is no name of a room: 1 to %d characters a-z, 0-9 and hyphen", name, registry.MaxName)
	}
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		r, err := tx.Room(chat)
		if err == nil && r == nil {
			err = ErrUnknown
		}
		if err != nil {
			return err
		}
		if r.Name == name {
			return nil
		}
		if r.Name, err = freeRoom(tx, name); err != nil {
			return err
		}
		a.events = append(a.events, Event{Kind: People, Chat: chat})
		return tx.PutRoom(r)
	})
}

// Forget forgets a contact or a room, and what was said there. A contact is then out of our rooms; a room must have been left.
func (e *Engine) Forget(ctx context.Context, chat protocol.Chat) error {
	return e.update(ctx, func(tx *store.Tx, a *after) error {
		a.wake[chat.Peer] = true
		a.events = append(a.events, Event{Kind: People, Chat: chat})
		if chat.Room == 0 {
			ours := func(m *protocol.Message) bool { return m.Room == nil || m.Room.Peer == e.ID }
			return errors.Join(e.expel(tx, a, chat.Peer), e.dropFiles(tx, a, chat.Peer), tx.DropQueued(chat.Peer, ours), tx.DropContact(chat.Peer))
		}
		r, err := tx.Room(chat)
		switch {
		case err != nil:
			return err
		case r == nil:
			return ErrUnknown
		case !r.Gone:
			return fmt.Errorf("you are in #%s: leave it first", r.Name)
		case !r.Left:
			return tx.DropRoom(chat)
		}
		r.Forgotten = true // its creator, who does not know yet, must not put us in it again
		return errors.Join(tx.DropHistory(chat), tx.PutRoom(r))
	})
}

// Resolve finds a chat by what a person calls it: a petname, an ID, or # and the name of a room.
func (e *Engine) Resolve(ctx context.Context, name string) (chat protocol.Chat, err error) {
	unknown := ErrUnknown
	err = e.Store.View(ctx, func(tx *store.Tx) error {
		room, ok := strings.CutPrefix(name, "#")
		rooms, err := tx.Rooms()
		for _, r := range rooms {
			switch {
			case r.Name == room && ok:
				chat = r.Chat
			case r.Name == room:
				unknown = fmt.Errorf("it is a room, which is written #%s", room)
			}
		}
		if err != nil || ok {
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
		if len(name) > registry.MaxName && !strings.HasPrefix(name, "#") { // longer than any name
			if _, err := identity.ParseID(name); err != nil {
				return chat, fmt.Errorf("a mistyped ID: %w", err)
			}
			unknown = errors.New("nobody here has this ID: contacts are made by invitations")
		}
		err = fmt.Errorf("%.80q: %w", name, unknown)
	}
	return chat, err
}

// self is what stands before our own words, and nobody else is called.
const self = "me"

// Name is what a person calls a peer.
func (e *Engine) Name(ctx context.Context, id identity.ID) (name string) {
	err := e.Store.View(ctx, func(tx *store.Tx) error {
		name = e.nameIn(tx, id)
		return nil
	})
	if err != nil {
		return stranger(id)
	}
	return name
}

func (e *Engine) nameIn(tx *store.Tx, id identity.ID) string {
	if id == e.ID {
		return self
	}
	if c, err := tx.Contact(id); err == nil && c != nil {
		return c.Name
	}
	return stranger(id)
}

// stranger is what somebody is called whom we have no name for. No contact can be called so; and there are too many for
// somebody to make a key whose is the same.
func stranger(id identity.ID) string { return "?" + id.String()[:16] }

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
	if name == self {
		return errors.New("you are called " + self)
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
	if name = strings.Trim(name[:min(len(name), registry.MaxName-6)], "-"); registry.ValidName(name) && name != self {
		return name
	}
	return otherwise
}
