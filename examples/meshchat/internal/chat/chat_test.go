package chat

import (
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

var fileSize = flag.Int("file", 8<<20, "bytes of the file in TestFileOverDyingRelay")

func fill(b []byte) { rand.Read(b) }

// TestTalk: two people meet by invitation, over relays only, talk, and see how far their words got.
func TestTalk(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob := w.person("Ann"), w.person("Bob")
	bob.knowing = false // what he knows of relays is in the invitation
	ann.start()
	bob.start()
	ann.meets(bob)
	ann.says(with(bob), "hello")
	bob.hears(with(ann), "ann: hello")
	ann.marked(with(bob), "delivered")
	bob.reads(with(ann))
	ann.marked(with(bob), "read")
	bob.says(with(ann), "good day")
	ann.hears(with(bob), "me: hello", "bob: good day")
}

// TestOffline: what is said to somebody who is away reaches him when he is back, in order and once; it outlives the program
// of who said it.
func TestOffline(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.start()
	bob.start()
	ann.meets(bob)
	ann.says(with(bob), "0")
	ann.marked(with(bob), "delivered")
	bob.stop()
	want := []string{"ann: 0"}
	for i := 1; i <= 100; i++ {
		ann.says(with(bob), fmt.Sprint(i))
		want = append(want, fmt.Sprint("ann: ", i))
		if i == 50 {
			ann.restart()
		}
	}
	bob.restart()
	began := time.Now()
	bob.hears(with(ann), want...)
	t.Logf("back for %v", time.Since(began).Round(time.Millisecond))
	ann.marked(with(bob), "delivered")
	ann.stop()
	bob.says(with(ann), "you were away too")
	bob.marked(with(ann), "queued")
	ann.start()
	ann.hears(with(bob), append(own(want, "ann", "me"), "bob: you were away too")...)
}

// own is texts with another name of an author.
func own(texts []string, from, to string) (out []string) {
	for _, s := range texts {
		out = append(out, to+s[len(from):])
	}
	return out
}

// TestRoom: three people of whom two don't know each other talk in a room, until one is removed.
func TestRoom(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob, cy := w.person("Ann"), w.person("Bob"), w.person("Cy")
	for _, p := range []*person{ann, bob, cy} {
		p.start()
	}
	ann.meets(bob, cy)
	room, err := ann.CreateRoom(t.Context(), "garden", bob.ID, cy.ID)
	if err != nil {
		t.Fatal(err)
	}
	ann.says(room, "welcome")
	bob.hears(room, "ann: welcome")
	cy.hears(room, "ann: welcome")
	ann.marked(room, "delivered 2/2")
	bob.says(room, "hi all")
	who := stranger(bob.ID)
	cy.hears(room, "ann: welcome", who+": hi all")
	ann.hears(room, "me: welcome", "bob: hi all")
	if chat, err := cy.Resolve(t.Context(), "#garden"); err != nil || chat != room {
		t.Error(chat, err)
	}
	if err := bob.SetMember(t.Context(), room, cy.ID, false); err == nil {
		t.Error("a member removes another")
	}
	if err := ann.SetMember(t.Context(), room, cy.ID, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "cy is out", func() bool { return cy.Send(t.Context(), room, "still here?") != nil })
	eventually(t, "bob knows", func() bool {
		rooms, err := bob.Rooms(t.Context())
		return err == nil && len(rooms) == 1 && !rooms[0].Has(cy.ID)
	})
	ann.says(room, "now we are two")
	bob.hears(room, "ann: welcome", "me: hi all", "ann: now we are two")
	said := cy.texts(room)
	if err := ann.SetMember(t.Context(), room, cy.ID, true); err != nil {
		t.Fatal(err)
	}
	ann.says(room, "three again")
	cy.hears(room, append(said, "ann: three again")...)
}

// TestRequest: what a stranger says is held until he is welcome, and he is not heard when he isn't.
func TestRequest(t *testing.T) {
	w := newWorld(t, 2)
	ann, eve := w.person("Ann"), w.person("Eve")
	ann.start()
	eve.start()
	v, err := ann.Invite(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	v.Secret = nil // she has but the ID
	if _, err := eve.Join(t.Context(), v.String(), "ann"); err != nil {
		t.Fatal(err)
	}
	for i := range MaxHeld + 2 {
		eve.says(with(ann), fmt.Sprint(i))
	}
	held := make([]string, MaxHeld)
	for i := range held {
		held[i] = fmt.Sprint("eve: ", i)
	}
	ann.hears(with(eve), held...)
	eve.marked(with(ann), "queued")
	if s := ann.standing(eve); s != store.Request {
		t.Error(s)
	}
	if err := ann.Send(t.Context(), with(eve), "who are you?"); err == nil {
		t.Error("an answer to a request that was not accepted")
	}
	if err := ann.SetStanding(t.Context(), eve.ID, store.Friend); err != nil {
		t.Fatal(err)
	}
	ann.hears(with(eve), slices.Concat(held, []string{"eve: 8", "eve: 9"})...)
	eve.marked(with(ann), "delivered")
	if err := ann.SetStanding(t.Context(), eve.ID, store.Blocked); err != nil {
		t.Fatal(err)
	}
	eve.says(with(ann), "hear me")
	ann.restart()
	eve.restart()
	eve.marked(with(ann), "queued")
}

// TestUsedInvitation: who comes second is told that the invitation makes him no contact, and until he is accepted he is none.
func TestUsedInvitation(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob, carl := w.person("Ann"), w.person("Bob"), w.person("Carl")
	events, cancel := carl.Subscribe()
	defer cancel()
	for _, p := range []*person{ann, bob, carl} {
		p.start()
	}
	v, err := ann.Invite(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	joining := func(p *person) bool {
		people, err := p.Contacts(t.Context())
		if err != nil || len(people) != 1 {
			t.Fatal(people, err)
		}
		return people[0].Joining()
	}
	if c, err := bob.Join(t.Context(), v.String(), ""); err != nil || !c.Joining() {
		t.Fatal(c, err)
	}
	eventually(t, "bob is a contact", func() bool { return !joining(bob) })
	if _, err := carl.Join(t.Context(), v.String(), ""); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for told := false; !told; {
		select {
		case e := <-events:
			told = strings.Contains(e.Text, "ann does not take the invitation")
		case <-deadline:
			t.Fatal("carl is told nothing")
		}
	}
	carl.says(with(ann), "it is carl")
	ann.hears(with(carl), "carl: it is carl")
	if s := ann.standing(carl); s != store.Request || !joining(carl) {
		t.Error(s, joining(carl))
	}
	if err := ann.SetStanding(t.Context(), carl.ID, store.Friend); err != nil {
		t.Fatal(err)
	}
	carl.restart()
	eventually(t, "carl is a contact", func() bool { return !joining(carl) })
}

// TestFile comes whole, with progress, under a name of its own; another is declined, and a third taken back.
func TestFile(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.start()
	bob.start()
	ann.meets(bob)
	path, content := noise(t, 3<<20)
	for i, name := range []string{"some thing.bin", "some thing (2).bin"} {
		if err := ann.SendFile(t.Context(), with(bob), path); err != nil {
			t.Fatal(err)
		}
		f := bob.file(store.Offered)
		if err := bob.AcceptFile(t.Context(), f.Number); err != nil {
			t.Fatal(err)
		}
		f = bob.file(store.Done)
		if got := filepath.Base(f.Path); got != name {
			t.Errorf("file %d is %s", i, got)
		}
		same(t, f.Path, content)
		ann.file(store.Done)
	}
	for _, dropper := range []*person{bob, ann} {
		if err := ann.SendFile(t.Context(), with(bob), path); err != nil {
			t.Fatal(err)
		}
		bob.file(store.Offered)
		if err := dropper.DropFile(t.Context(), dropper.file(store.Offered).Number); err != nil {
			t.Fatal(err)
		}
		want := store.Declined
		if dropper == ann {
			want = store.Withdrawn
		}
		ann.file(want)
		if f := bob.file(want); dropper == ann {
			if err := bob.AcceptFile(t.Context(), f.Number); err == nil {
				t.Error("what was taken back is accepted")
			}
		}
	}
	left, err := os.ReadDir(bob.Dir)
	if err != nil || len(left) != 2 {
		t.Error(left, err)
	}
}

// TestFileOverDyingRelay: of three relays one dies within a file, and each of the two people starts anew.
func TestFileOverDyingRelay(t *testing.T) {
	w := newWorld(t, 3, *fileSize/8) // so that there is time for it all
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.start()
	bob.start()
	ann.meets(bob)
	path, content := noise(t, *fileSize)
	began := time.Now()
	if err := ann.SendFile(t.Context(), with(bob), path); err != nil {
		t.Fatal(err)
	}
	if err := bob.AcceptFile(t.Context(), bob.file(store.Offered).Number); err != nil {
		t.Fatal(err)
	}
	beyond := func(p *person, part int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d/8 have come", part), func() bool {
			all, err := p.Files(t.Context())
			return err == nil && len(all) == 1 && all[0].Done >= int64(*fileSize/8*part)
		})
		if f := p.file(store.Running); f.Done == f.Size {
			t.Error("the file was too quick")
		}
	}
	beyond(bob, 1)
	w.relays[0].Close()
	beyond(bob, 3)
	bob.restart()
	beyond(bob, 4)
	ann.restart()
	f := bob.file(store.Done)
	same(t, f.Path, content)
	ann.file(store.Done)
	t.Logf("%d MiB in %v", *fileSize>>20, time.Since(began).Round(time.Millisecond))
}
