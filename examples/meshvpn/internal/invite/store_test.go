package invite_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
)

type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.Load(), 0) }

// TestStore: one peer, in time, over restarts; and the disk has no secret.
func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "invitations")
	c := new(clock)
	c.Store(1_000_000)
	restart := func() *invite.Store { return &invite.Store{Dir: dir, Now: c.now} }
	secret, ann, bob := invite.NewSecret(), newID(t), newID(t)
	if _, err := restart().Use(secret, ann); err == nil {
		t.Error("used before there was any")
	}
	if err := restart().Add(secret, c.now().Add(time.Hour), "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := restart().Use(invite.NewSecret(), ann); err == nil {
		t.Error("another secret is taken")
	}
	for range 2 { // the second, as the answer to the first was lost
		if name, err := restart().Use(secret, ann); err != nil || name != "ann" {
			t.Error(name, err)
		}
	}
	if _, err := restart().Use(secret, bob); err == nil {
		t.Error("used by two")
	}
	c.Add(3600)
	if _, err := restart().Use(secret, ann); err == nil {
		t.Error("used when it has ended")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil || bytes.Contains(b, secret[:]) || strings.Contains(string(b)+files[0].Name(), fmt.Sprintf("%x", secret[:])) {
		t.Errorf("%s %s %v", files[0].Name(), b, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	for i := range 256 { // the one that has ended is forgotten
		if err := restart().Add(invite.NewSecret(), c.now().Add(time.Hour), ""); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := restart().Add(invite.NewSecret(), c.now().Add(time.Hour), ""); err == nil {
		t.Error("there is no limit")
	}
}

// TestRevoke: one that was revoked lets nobody in, and the others stay.
func TestRevoke(t *testing.T) {
	c := new(clock)
	c.Store(1_000_000)
	s := &invite.Store{Dir: t.TempDir(), Now: c.now}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	secrets := make(map[string]invite.Secret)
	for i, who := range []string{"ann", "bob", "carol", "dave"} {
		secret := invite.NewSecret()
		secrets[who] = secret
		if err := s.Add(secret, c.now().Add(time.Duration(4-i)*time.Hour), who); err != nil {
			t.Fatal(err)
		}
	}
	id := newID(t)
	if _, err := s.Use(secrets["carol"], id); err != nil {
		t.Fatal(err)
	}
	c.Add(3600) // dave's has ended
	all, err := s.List()
	if err != nil || len(all) != 3 || all[0].For != "carol" || all[0].By == nil || *all[0].By != id || all[1].For != "bob" || all[1].By != nil || all[2].ID != invite.IDOf(secrets["ann"]) {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, which := range []string{"", "nobody", "carol", "dave", invite.IDOf(secrets["carol"]), invite.IDOf(secrets["ann"])[:4]} {
		if got, err := s.Revoke(which); err == nil {
			t.Errorf("%q: %v", which, got)
		}
	}
	for _, which := range []string{"bob", invite.IDOf(secrets["ann"])} {
		if got, err := s.Revoke(which); err != nil || len(got) != 1 || got[0].For != which && got[0].ID != which {
			t.Errorf("%s: %v, %v", which, got, err)
		}
	}
	for who, secret := range secrets {
		if _, err := s.Use(secret, id); (err == nil) != (who == "carol") {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestRace: of many at once, one has it.
func TestRace(t *testing.T) {
	s := &invite.Store{Dir: t.TempDir()}
	secret := invite.NewSecret()
	if err := s.Add(secret, time.Now().Add(time.Hour), ""); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		id := newID(t)
		all.Go(func() {
			if _, err := s.Use(secret, id); err == nil {
				won.Add(1)
			}
		})
	}
	if all.Wait(); won.Load() != 1 {
		t.Error(won.Load())
	}
}
