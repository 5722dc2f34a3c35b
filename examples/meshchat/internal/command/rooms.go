package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

const roomArgs = "new NAME WHO.. | add NAME WHO | remove NAME WHO | leave NAME"

func room(ctx context.Context, s *Session, a []string) (*Result, error) {
	name, who := strings.TrimPrefix(a[1], "#"), ""
	if len(a) > 2 {
		who = a[2]
	}
	switch what := a[0]; {
	case what == "new":
		return newRoom(ctx, s, name, who)
	case what == "leave" && who == "":
		c, err := s.Resolve(ctx, "#"+name)
		if err != nil {
			return nil, err
		}
		if err := s.LeaveRoom(ctx, c); err != nil {
			return nil, err
		}
		return said("you have left #%s; /forget #%[1]s forgets what was said", name)
	case (what == "add" || what == "remove") && len(strings.Fields(who)) == 1:
		c, err := s.Resolve(ctx, "#"+name)
		if err != nil {
			return nil, err
		}
		id, err := member(ctx, s, c, who, what == "add")
		if err != nil {
			return nil, err
		}
		if err := s.SetMember(ctx, c, id, what == "add"); err != nil {
			return nil, err
		}
		return said("#%s: %s %s", name, s.Name(ctx, id), choose(what == "add", "is in", "is out"))
	}
	return nil, fmt.Errorf("%w: /room %s", ErrUsage, roomArgs)
}

func newRoom(ctx context.Context, s *Session, name, who string) (*Result, error) {
	var members []identity.ID
	for w := range strings.FieldsSeq(who) {
		c, err := person(ctx, s, w)
		if err != nil {
			return nil, err
		}
		members = append(members, c.Peer)
	}
	if _, err := s.CreateRoom(ctx, name, members...); err != nil {
		return nil, err
	}
	return said("#%s is made", name)
}

// member is who is called so: a contact, or, for who is to go, whoever is in the room.
func member(ctx context.Context, s *Session, room protocol.Chat, name string, add bool) (identity.ID, error) {
	c, err := person(ctx, s, name)
	if err == nil || add {
		return c.Peer, err
	}
	rooms, roomErr := s.Rooms(ctx)
	for _, r := range rooms {
		for _, id := range r.Members {
			if r.Chat == room && (s.Name(ctx, id) == name || id.String() == name) {
				return id, roomErr
			}
		}
	}
	return identity.ID{}, errors.Join(err, roomErr)
}
