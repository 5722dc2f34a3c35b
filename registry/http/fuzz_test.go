package httpregistry_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// Whatever a server answers with, the error is there, bounded, and fit to be shown.
func FuzzProblem(f *testing.F) {
	f.Add(404, httpregistry.ProblemType, []byte(`{"type":"urn:splitmesh:problem:not-found","title":"no record","status":404}`))
	f.Add(404, httpregistry.ProblemType+"; charset=utf-8", []byte(`{"type":"urn:splitmesh:problem:expired","detail":"at noon"}`))
	f.Add(409, httpregistry.ProblemType, []byte(`{"type":"urn:splitmesh:problem:rollback","detail":"\u001b[2J"}`))
	f.Add(500, httpregistry.ProblemType, []byte(`{"type":"about:blank","detail":"\ufffd"}`))
	f.Add(500, httpregistry.ProblemType, []byte(`{"type":7}`))
	f.Add(307, "text/html", []byte(`<html>`))
	f.Add(-1, "", []byte(nil))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		err := httpregistry.ParseProblem(status, contentType, body)
		if err == nil {
			t.Fatal("no error")
		}
		if n := len(err.Error()); n > 4000 {
			t.Errorf("an error of %d bytes", n)
		}
		for _, r := range err.Error() {
			if r < ' ' || r == 0x7f {
				t.Fatalf("the error holds the control character %q", r)
			}
		}
		if errors.Is(err, registry.ErrNotFound) && !json.Valid(body) {
			t.Errorf("a peer is offline, by %q", body)
		}
	})
}

func FuzzPage(f *testing.F) {
	clock := registrytest.NewClock()
	a, b := registrytest.Signed(f, registrytest.Key(f), clock.Now()), registrytest.Signed(f, registrytest.Key(f), clock.Now())
	if a.ID.Compare(b.ID) > 0 {
		a, b = b, a
	}
	for _, page := range []map[string]any{
		{}, {"records": [][]byte{}}, {"records": [][]byte{a.Marshal()}}, {"records": [][]byte{a.Marshal(), b.Marshal()}, "next": b.ID.PeerID()},
		{"records": [][]byte{b.Marshal(), a.Marshal()}}, {"next": a.ID.String()}, {"records": "x"}, {"id": a.ID.String()},
	} {
		body, err := json.Marshal(page)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, []byte{}, 2)
		f.Add(body, a.ID[:], 1)
	}
	f.Fuzz(func(t *testing.T, body, start []byte, n int) {
		if id, err := httpregistry.ParseName(body); err == nil {
			if _, err := identity.NewID(id[:]); err != nil {
				t.Errorf("a name's ID: %v", err)
			}
		}
		var after identity.ID
		copy(after[:], start)
		page, next, err := httpregistry.ParsePage(body, after, n)
		if err != nil {
			if page != nil || !next.IsZero() {
				t.Error("a page and an error")
			}
			return
		}
		if len(page) > max(n, 0) {
			t.Errorf("%d records, and %d were asked for", len(page), n)
		}
		last := after
		for _, r := range page {
			if _, err := registry.Parse(r.Marshal()); err != nil || r.ID.Compare(last) <= 0 {
				t.Errorf("a record of %v after %v: %v", r.ID, last, err)
			}
			last = r.ID
		}
		if !next.IsZero() && (next.Compare(last) < 0 || next.Compare(after) <= 0) {
			t.Errorf("next is %v, after %v", next, last)
		}
	})
}
