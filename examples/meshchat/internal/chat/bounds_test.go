package chat

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// rows is how many the store has.
func (p *person) rows() (n int) {
	p.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(p.dir, "chat.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(p.t.Context(), `SELECT (SELECT count(*) FROM named) + (SELECT count(*) FROM listed)`).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

// TestEndlessRooms: of rooms that we are not in nothing is kept, however many a contact names.
func TestEndlessRooms(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	before := ann.rows()
	for i := range uint64(200) {
		room := &protocol.Chat{Peer: bob.ID, Room: 1 + i}
		ann.takes(bob, protocol.Message{ID: 2*i + 1, Room: room, Members: &protocol.Members{Name: "x"}}, protocol.Message{ID: 2*i + 2, Room: room, Leave: true})
	}
	if now := ann.rows(); now != before {
		t.Errorf("%d rows, and %d before", now, before)
	}
}

// TestStrangersAtTheDoor: strangers have a few conns together, of which the oldest goes, and never one of a contact's.
func TestStrangersAtTheDoor(t *testing.T) {
	e := New(Options{})
	closed := make(map[identity.ID]bool)
	peer := func(n int) (id identity.ID) {
		id[0], id[1] = byte(n), byte(n>>8)
		return id
	}
	now := time.Now()
	admit := func(n int, known bool) bool {
		e.spawn = func(func(context.Context)) context.CancelFunc { return func() { closed[peer(n)] = true } }
		now = now.Add(time.Second)
		return e.admit(&incoming{known: known, since: now}, peer(n))
	}
	for n := range maxStrangers + 5 {
		if !admit(1+n, n == 0) {
			t.Fatal(n, "is not let in")
		}
	}
	if len(closed) != 4 || closed[peer(1)] || !closed[peer(2)] || !closed[peer(5)] {
		t.Error(closed)
	}
	for n := 1000; admit(n, true); n++ { // each stranger makes way
		if n > 1000+maxConns {
			t.Fatal("there is no end")
		}
	}
	if len(e.conns) != maxConns || len(closed) != maxStrangers+4 || closed[peer(1)] {
		t.Error(len(e.conns), "conns")
	}
	if admit(5000, true) || admit(5001, false) {
		t.Error("one too many is let in")
	}
	if !admit(1, true) || !closed[peer(1)] {
		t.Error("a second conn does not take the place of the first")
	}
}

// TestNames: nobody is called as we are, nor as one for whom we have no name.
func TestNames(t *testing.T) {
	w := newWorld(t, 0)
	ann, eve := w.person("Ann"), w.person("Me")
	ann.takes(eve, protocol.Message{ID: 1, Text: "it is me"})
	if got := ann.texts(with(eve)); len(got) != 1 || strings.HasPrefix(got[0], "me:") {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"me", "?" + eve.ID.String()[:16]} {
		if err := ann.Rename(t.Context(), with(eve), name); err == nil {
			t.Error(name, "is taken for a petname")
		}
	}
	if got := petname(stranger(ann.ID), "x"); got == stranger(ann.ID) {
		t.Error("a nick becomes", got)
	}
}

// TestUnreadStays: what is said here before it was seen does not make what came before it seen.
func TestUnreadStays(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	ann.takes(bob, protocol.Message{ID: 1, Text: "one"}, protocol.Message{ID: 2, Text: "two"})
	ann.says(with(bob), "by a script")
	seen := func() (unread int, id uint64) {
		n, err := ann.Unread(t.Context(), with(bob))
		ann.does("counts", err)
		_, id, _, err = newCourier(ann.Engine, bob.ID).next(t.Context())
		ann.does("looks", err)
		return n, id
	}
	if n, id := seen(); n != 2 || id != 0 {
		t.Error(n, "unread, and", id, "is told to be read")
	}
	lines, err := ann.Unseen(t.Context(), with(bob))
	if err != nil || len(lines) != 3 {
		t.Fatal(lines, err)
	}
	ann.does("reads one", ann.MarkRead(t.Context(), with(bob), lines[:1]))
	if n, id := seen(); n != 1 || id != 1 {
		t.Error(n, "unread, and", id, "is told to be read")
	}
	ann.does("reads all", ann.MarkRead(t.Context(), with(bob), lines))
	ann.says(with(bob), "seen by who says it")
	if n, id := seen(); n != 0 || id != 2 {
		t.Error(n, "unread, and", id, "is told to be read")
	}
}

// TestLostRow: a message whose row in the queue was damaged is said to have failed, and never to be delivered.
func TestLostRow(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	bob.knows(ann)
	ann.says(with(bob), "one")
	ann.carries(bob)
	ann.says(with(bob), "two")
	ann.says(with(bob), "three")
	db, err := sql.Open("sqlite", filepath.Join(ann.dir, "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `UPDATE listed SET sealed = x'00' WHERE kind = 6 AND number = (SELECT min(number) FROM listed WHERE kind = 6)`); err != nil {
		t.Fatal(err)
	}
	ann.carries(bob)
	bob.hears(with(ann), "ann: one", "ann: three")
	lines, err := ann.History(t.Context(), with(bob), 9)
	if err != nil || len(lines) != 3 || lines[0].State != Delivered || lines[1].State != Undeliverable || lines[2].State != Delivered {
		t.Errorf("%+v, %v", lines, err)
	}
}

// TestInvitationOfContact: an invitation is used up by him who is a contact already.
func TestInvitationOfContact(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob, eve := w.person("Ann"), w.person("Bob"), w.person("Eve")
	ann.knows(bob)
	v, err := ann.Invite(t.Context(), nil)
	ann.does("invites", err)
	for _, tt := range []struct {
		who  *person
		want bool
	}{{bob, true}, {eve, false}} {
		if known, err := ann.meet(t.Context(), tt.who.ID, &protocol.Hello{Secret: v.Secret}); err != nil || known != tt.want {
			t.Error(tt.who.name, known, err)
		}
	}
}

// TestExtra: each contact's addresses have their share, and without direct paths none is the contact's own.
func TestExtra(t *testing.T) {
	w := newWorld(t, 0)
	ann := w.person("Ann")
	at := func(p *person, n int) string {
		return fmt.Sprintf("/ip4/192.0.2.%d/tcp/1/ws/p2p/%s", n, p.ID.PeerID())
	}
	relay := w.person("R")
	for i, name := range []string{"b", "c"} {
		p := w.person(name)
		addrs := []string{at(p, i+1)}
		for n := range 8 {
			addrs = append(addrs, at(relay, n))
		}
		ann.does("keeps", ann.Store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.PutContact(&store.Contact{ID: p.ID, Name: name, Standing: store.Friend, Addrs: addrs})
		}))
	}
	all, err := ann.Extra(t.Context())
	if err != nil || len(all) != 10 || !strings.Contains(all[0], "192.0.2.1") || !strings.Contains(all[1], "192.0.2.2") {
		t.Errorf("%q, %v", all, err)
	}
	ann.Dialer.RelayedOnly = true
	few, err := ann.Extra(t.Context())
	if err != nil || len(few) != 8 || slices.Contains(few, all[0]) || slices.Contains(few, all[1]) {
		t.Errorf("%q, %v", few, err)
	}
}
