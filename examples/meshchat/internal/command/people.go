package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// A Person is a contact as JSON.
type Person struct {
	Name, ID, Nick, Standing string
	Verified, Online         bool
	Unread, Queued           int
}

// A Room is one as JSON.
type Room struct {
	Name    string
	Creator string
	Members []string
	Gone    bool
	Unread  int
}

func contacts(ctx context.Context, s *Session, _ []string) (*Result, error) {
	people, err := s.Contacts(ctx)
	if err != nil {
		return nil, err
	}
	rooms, err := s.Rooms(ctx)
	if err != nil {
		return nil, err
	}
	online := s.Online()
	data := struct {
		Contacts []Person
		Rooms    []Room
	}{[]Person{}, []Room{}}
	var b strings.Builder
	if len(people) > 0 {
		t := program.NewTable(&b, "NAME", "IS", "SEEN", "UNREAD", "WAIT", "WORDS", "ID")
		for _, c := range people {
			p := Person{Name: c.Name, ID: c.ID.String(), Nick: c.Nick, Standing: Standing(&c), Verified: c.Verified, Online: online[c.ID]}
			if p.Unread, err = s.Unread(ctx, protocol.Chat{Peer: c.ID}); err != nil {
				return nil, err
			}
			if err = s.Store.View(ctx, func(tx *store.Tx) (err error) {
				p.Queued, err = tx.Queued(c.ID)
				return err
			}); err != nil {
				return nil, err
			}
			data.Contacts = append(data.Contacts, p)
			t.Row(c.Name, p.Standing, choose(p.Online, "online", "away"), strconv.Itoa(p.Unread), strconv.Itoa(p.Queued), choose(c.Verified, "verified", "-"), p.ID)
		}
		if err := t.Flush(); err != nil {
			return nil, err
		}
	}
	if len(rooms) > 0 {
		t := program.NewTable(&b, "ROOM", "OF", "UNREAD", "MEMBERS")
		for _, r := range rooms {
			row := Room{Name: r.Name, Creator: s.Name(ctx, r.Chat.Peer), Members: []string{}, Gone: r.Gone}
			if row.Unread, err = s.Unread(ctx, r.Chat); err != nil {
				return nil, err
			}
			for _, m := range r.Members {
				row.Members = append(row.Members, s.Name(ctx, m))
			}
			data.Rooms = append(data.Rooms, row)
			t.Row("#"+r.Name, row.Creator, strconv.Itoa(row.Unread), choose(r.Gone, "you are no longer in it", strings.Join(row.Members, ", ")))
		}
		if err := t.Flush(); err != nil {
			return nil, err
		}
	}
	if b.Len() == 0 {
		b.WriteString("nobody yet: /invite makes an invitation, /join takes one")
	}
	return &Result{Lines: strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), Data: data}, nil
}

// Standing is how we stand to somebody, in a word.
func Standing(c *store.Contact) string {
	switch {
	case c.Joining():
		return "joining"
	case c.Standing == store.Request:
		return "asks"
	case c.Standing == store.Friend:
		return "contact"
	case c.Standing == store.Blocked:
		return "blocked"
	}
	return "unknown"
}

func invite(ctx context.Context, s *Session, a []string) (*Result, error) {
	if len(a) > 0 {
		if a[0] != "cancel" {
			return nil, fmt.Errorf("%w: /invite, or /invite cancel", ErrUsage)
		}
		n, err := s.CancelInvitations(ctx)
		if err != nil {
			return nil, err
		}
		return said("%s that nobody has used %s good no more", english.Plural(n, "invitation", ""), choose(n == 1, "is", "are"))
	}
	v, err := s.Invite(ctx, s.Addrs())
	if err != nil {
		return nil, err
	}
	return &Result{Lines: []string{v.String()}, ToCopy: true}, nil
}

func join(ctx context.Context, s *Session, a []string) (*Result, error) {
	// The invitation may have been folded, and then it is several words. A name may stand behind it.
	words := strings.Fields(strings.Join(a, " "))
	n := len(words)
	for ; n > 1; n-- {
		if _, err := contact.Parse(strings.Join(words[:n], "")); err == nil {
			break
		}
	}
	c, err := s.Join(ctx, strings.Join(words[:n], ""), strings.Join(words[n:], " "))
	if err != nil {
		return nil, err
	}
	if c.Joining() {
		return said("%s is a contact here; you are one there when the invitation has come to %[1]s, unless somebody else has used it. /verify %[1]s shows words to compare", c.Name)
	}
	return said("%s is a contact; /verify %[1]s shows words to compare", c.Name)
}

// person resolves one who is no room.
func person(ctx context.Context, s *Session, name string) (protocol.Chat, error) {
	c, err := s.Resolve(ctx, name)
	if err == nil && c.Room != 0 {
		err = fmt.Errorf("%w: %s is a room", ErrUsage, name)
	}
	return c, err
}

func standing(to store.Standing, what string) func(context.Context, *Session, []string) (*Result, error) {
	return func(ctx context.Context, s *Session, a []string) (*Result, error) {
		c, err := person(ctx, s, a[0])
		if err != nil {
			return nil, err
		}
		if err := s.SetStanding(ctx, c.Peer, to); err != nil {
			return nil, err
		}
		return said("%s %s", a[0], what)
	}
}

func forget(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	if err := s.Forget(ctx, c); err != nil {
		return nil, err
	}
	return said("%s is forgotten", a[0])
}

func rename(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	if err := s.Rename(ctx, c, strings.TrimPrefix(a[1], "#")); err != nil {
		return nil, err
	}
	return said("%s is %s now", a[0], s.ChatName(ctx, c))
}

func verify(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := person(ctx, s, a[0])
	if err != nil {
		return nil, err
	}
	if len(a) == 1 {
		words := contact.Phrase(s.ID, c.Peer)
		return &Result{Lines: []string{
			"Read these to each other, by voice; both must have the same:",
			"    " + strings.Join(words[:contact.Words/2], " "), "    " + strings.Join(words[contact.Words/2:], " "),
			"If they agree: /verify " + a[0] + " yes",
		}, Data: words}, nil
	}
	if a[1] != "yes" {
		return nil, fmt.Errorf("%w: /verify WHO yes, when the words agree", ErrUsage)
	}
	if err := s.Verified(ctx, c.Peer); err != nil {
		return nil, err
	}
	return said("%s is verified", a[0])
}
