package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

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
	Secret   []byte   // of his invitation, until he says that we are a contact of his
	Verified bool     // the words were compared
}

// Joining reports whether he has not said yet that we are a contact of his, by the invitation that we have.
func (c *Contact) Joining() bool { return c.Standing == Friend && len(c.Secret) > 0 }

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

// DropContact forgets a contact and what was said with him alone.
func (t *Tx) DropContact(id identity.ID) error {
	chat := protocol.Chat{Peer: id}
	return errors.Join(t.drop(kindContact, t.s.hash("contact", id[:])), t.DropHistory(chat), t.DropMark(id, chat))
}

// Contacts returns all, in no order.
func (t *Tx) Contacts() ([]Contact, error) { return all[Contact](t, kindContact) }

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

// DropInvitations has those that nobody has used be good no more, and returns how many they were.
func (t *Tx) DropInvitations() (n int, err error) {
	if n, err = t.count(kindInvitation); err != nil {
		return 0, err
	}
	_, err = t.tx.ExecContext(t.ctx, `DELETE FROM named WHERE kind = ?`, int(kindInvitation))
	return n, err
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
