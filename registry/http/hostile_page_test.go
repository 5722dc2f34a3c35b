package httpregistry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestHostilePages(t *testing.T) {
	s := newHostile(t)
	var records []*registry.Record
	for range 3 {
		records = append(records, registrytest.Signed(t, registrytest.Key(t), s.clock.Now()))
	}
	slices.SortFunc(records, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	a, b, c := records[0], records[1], records[2]
	text := func(r *registry.Record) string { return r.ID.String() }
	for _, tc := range []struct {
		name   string
		answer func(t *testing.T)
		n      int
		says   string
	}{
		{"more than asked for", func(t *testing.T) { s.page(t, "", b, c) }, 1, "1 were asked for"},
		{"out of order", func(t *testing.T) { s.page(t, "", c, b) }, 9, "out of order"},
		{"doubled", func(t *testing.T) { s.page(t, "", b, b) }, 9, "out of order"},
		{"not after what was asked", func(t *testing.T) { s.page(t, "", a, b) }, 9, "out of order"},
		{"back to the beginning", func(t *testing.T) { s.page(t, text(a), b) }, 9, "next"},
		{"on the spot", func(t *testing.T) { s.page(t, text(a)) }, 9, "next"},
		{"next before the end", func(t *testing.T) { s.page(t, text(b), b, c) }, 9, "next"},
		{"next is nobody", func(t *testing.T) { s.page(t, "x", b) }, 9, "next"},
		{"garbage for a record", func(t *testing.T) { s.says(200, "application/json", []byte(`{"records":["AAAA"]}`)) }, 9, "malformed"},
		{"garbage", func(t *testing.T) { s.says(200, "application/json", []byte(`{`)) }, 9, "something else"},
		{"a web page", func(t *testing.T) { s.says(200, "text/html", []byte(`{}`)) }, 9, "check the URL"},
		{"huge", func(t *testing.T) {
			s.says(200, "application/json", bytes.Repeat([]byte(" "), httpregistry.MaxPageBody+1))
		}, 9, "larger"},
		{"many of nothing", func(t *testing.T) {
			s.says(200, "application/json", []byte(`{"records":[""`+strings.Repeat(`,""`, 100_000)+`]}`))
		}, 9, "asked for"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.answer(t)
			page, next, err := s.List(t.Context(), a.ID, tc.n, "")
			if err == nil || page != nil || !next.IsZero() || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("List: %v, %v, %v; want an error with %q", page, next, err, tc.says)
			}
		})
	}

	// What may not be used, or was not asked for, is left out of a page that is good otherwise.
	k := registrytest.Key(t)
	mixed := []*registry.Record{a, registrytest.Signed(t, k, s.clock.Now().Add(time.Hour)), registrytest.Signed(t, registrytest.Key(t), s.clock.Now().Add(-25*time.Hour))}
	idle := registrytest.Draft(t, s.clock.Now())
	idle.Capabilities = nil
	if err := idle.Sign(registrytest.Key(t)); err != nil {
		t.Fatal(err)
	}
	mixed = append(mixed, idle)
	slices.SortFunc(mixed, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	s.page(t, "", mixed...)
	if page, _, err := s.List(t.Context(), identity.ID{}, 100, registry.CapRelay); err != nil || len(page) != 1 || !page[0].Equal(a) {
		t.Errorf("List: %v, %v", page, err)
	}
	// One from the future is not kept either.
	honest := registrytest.Signed(t, k, s.clock.Now())
	s.shows(honest)
	s.finds(t, honest)
}

// A page of the largest records there can be gets through.
func TestLargestPage(t *testing.T) {
	encoded := make([][]byte, httpregistry.MaxPage)
	for i := range encoded {
		encoded[i] = make([]byte, registry.MaxSize)
	}
	body, err := json.Marshal(map[string]any{"records": encoded, "next": strings.Repeat("x", identity.TextSize)})
	if err != nil || len(body) > httpregistry.MaxPageBody {
		t.Errorf("%d bytes, and %d are taken: %v", len(body), httpregistry.MaxPageBody, err)
	}
}

func TestHostileNames(t *testing.T) {
	s := newHostile(t)
	for body, want := range map[string]string{
		`{"id":"x"}`: "else than an ID", `{}`: "else than an ID", `{"id":"invalid ID"}`: "else than an ID", `[`: "else than an ID",
		strings.Repeat(" ", 1<<20): "larger",
	} {
		s.says(200, "application/json", []byte(body))
		if id, err := s.Resolve(t.Context(), "ann"); err == nil || !id.IsZero() || !strings.Contains(err.Error(), want) {
			t.Errorf("Resolve of %.20q: %v, %v; want %q", body, id, err, want)
		}
	}
	s.says(200, "application/json", []byte(`{"id":"`+s.key.ID().PeerID()+`"}`))
	if id, err := s.Resolve(t.Context(), "ann"); err != nil || id != s.key.ID() {
		t.Errorf("Resolve: %v, %v", id, err)
	}
	n := len(s.asked)
	if _, err := s.Resolve(t.Context(), "../records/x"); !errors.Is(err, registry.ErrNotFound) || len(s.asked) != n {
		t.Errorf("what can be no name: %v, and %d requests", err, len(s.asked)-n)
	}
}

// The server can make up as many peers as it likes. They push out nobody that the client has asked for.
func TestMemoryIsBounded(t *testing.T) {
	const pages = 2*httpregistry.DefaultLimit/httpregistry.MaxPage + 2
	s := newHostile(t)
	newer, gone := s.version(t, 1), registrytest.Key(t)
	s.shows(newer)
	s.finds(t, newer)
	revocation := registrytest.Revocation(t, gone, s.clock.Now())
	s.shows(revocation)
	s.finds(t, revocation)
	// What a list showed first is asked for none the less.
	shown := registrytest.Key(t)
	listedRevocation := registrytest.Revocation(t, shown, s.clock.Now())
	s.page(t, "", listedRevocation)
	if page, _, err := s.List(t.Context(), identity.ID{}, 1, ""); err != nil || len(page) != 1 {
		t.Fatalf("List: %v, %v", page, err)
	}
	s.finds(t, listedRevocation)
	for range pages {
		var records []*registry.Record
		for range httpregistry.MaxPage {
			r := &registry.Record{Sequence: s.clock.Now().UnixMilli(), Expires: s.clock.Now().UnixMilli() + 1000}
			if err := r.Sign(registrytest.Key(t)); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		slices.SortFunc(records, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
		s.page(t, "", records...)
		if page, _, err := s.List(t.Context(), identity.ID{}, httpregistry.MaxPage, ""); err != nil || len(page) != httpregistry.MaxPage {
			t.Fatalf("List: %d, %v", len(page), err)
		}
	}
	asked, revoked, listed := httpregistry.Remembered(s.Client)
	if asked != 3 || revoked != 2 || listed > 2*httpregistry.DefaultLimit {
		t.Errorf("it remembers %d, %d, %d", asked, revoked, listed)
	}
	s.shows(s.version(t, 0))
	s.refuses(t, registry.ErrRollback)
	s.finds(t, revocation)
	s.shows(registrytest.Signed(t, shown, s.clock.Now()))
	s.finds(t, listedRevocation)
}
