package httpregistry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// never fails the test when a request is made.
type never struct{ t *testing.T }

func (n never) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("a request went to %s", r.URL)
	return nil, http.ErrServerClosed
}

// What URL and Token say is looked at before anything is sent.
func TestURLs(t *testing.T) {
	id := registrytest.Key(t).ID()
	for _, tc := range []struct{ url, token, says string }{
		{"", "", "set it to one such as https://directory.example"},
		{"directory.example", "", "set it to"},
		{"directory.example:8080", "", "set it to"},
		{"ftp://directory.example", "", "set it to"},
		{"https://", "", "set it to"},
		{"https://directory.example/?a=b", "", "set it to"},
		{"https://directory.example/#a", "", "set it to"},
		{"https://directory.example/?token=hunter2", "", "set it to"},
		{"https://ann:hunter2@directory.example", "", "belongs into Token"},
		{"https://hunter2@directory.example", "", "belongs into Token"},
		{"https://ann:hunter2@directory.example:x", "", "does not parse"},
		{"http://directory.example", "hunter2", "use https"},
		{"http://192.0.2.1", "hunter2", "use https"},
		{"http://localhost.directory.example", "hunter2", "use https"},
		{"http://127.0.0.1.directory.example", "hunter2", "use https"},
	} {
		c := &httpregistry.Client{URL: tc.url, Token: httpregistry.Token(tc.token), HTTPClient: &http.Client{Transport: never{t}}}
		r, err := c.Lookup(t.Context(), id)
		if err == nil || r != nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %q", tc.url, err, tc.says)
		}
	}
}

// here answers everything that nothing is found, and notes the URL.
type here struct{ urls []string }

func (h *here) RoundTrip(r *http.Request) (*http.Response, error) {
	h.urls = append(h.urls, r.URL.String())
	w := httptest.NewRecorder()
	httpregistry.NewHandler(plain{err: registry.ErrNotFound}, httpregistry.Options{}).ServeHTTP(w, r)
	return w.Result(), nil
}

func TestURLsThatDo(t *testing.T) {
	id := registrytest.Key(t).ID()
	for url, token := range map[string]httpregistry.Token{
		"http://directory.example": "", "https://directory.example": "secret", "http://localhost:8080": "secret", "http://127.0.0.2": "secret",
		"http://[::1]:8080": "secret", "http://[::ffff:127.0.0.1]": "secret", "https://directory.example/": "",
	} {
		var h here
		c := &httpregistry.Client{URL: url, Token: token, HTTPClient: &http.Client{Transport: &h}}
		_, err := c.Lookup(t.Context(), id)
		wantError(t, err, registry.ErrNotFound)
		if want := strings.TrimSuffix(url, "/") + "/v1/records/" + id.String(); len(h.urls) != 1 || h.urls[0] != want {
			t.Errorf("%s: asked %v, want %s", url, h.urls, want)
		}
	}
}

func TestBelowAPath(t *testing.T) {
	w := newWorld(httpregistry.Options{})
	c := connect(t, http.StripPrefix("/some/where", w.h), w.clock.Now)
	c.URL += "/some/where/"
	r := registrytest.Signed(t, registrytest.Key(t), w.clock.Now())
	if err := c.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if page, _, err := c.List(t.Context(), identity.ID{}, 0, ""); err != nil || len(page) != 1 || !page[0].Equal(r) {
		t.Errorf("List: %v, %v", page, err)
	}
}

// What the server refuses comes back as the error that it was there, and says what to do.
func TestErrorsCrossOver(t *testing.T) {
	w := newWorld(httpregistry.Options{ReadToken: "right", PerAddress: httpregistry.Rate{Every: 2 * time.Minute, Burst: 3}, PerRecord: unlimited})
	c := connect(t, w.h, w.clock.Now)
	id := registrytest.Key(t).ID()
	_, err := c.Lookup(t.Context(), id)
	if err == nil || !strings.Contains(err.Error(), "ask the directory's operator") {
		t.Errorf("without a token: %v", err)
	}
	c.Token = "wrong"
	err = c.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), w.clock.Now()))
	if err == nil || !strings.Contains(err.Error(), "ask the directory's operator") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with another token: %v", err)
	}
	c.Token = "right"
	_, err = c.Lookup(t.Context(), id)
	wantError(t, err, registry.ErrNotFound)
	_, err = c.Lookup(t.Context(), id)
	if err == nil || !strings.Contains(err.Error(), "try again in 120 s") {
		t.Errorf("too often: %v", err)
	}
}

func TestNoServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	c := &httpregistry.Client{URL: server.URL, HTTPClient: server.Client()}
	server.Close()
	id := registrytest.Key(t).ID()
	_, err := c.Lookup(t.Context(), id)
	if err == nil || strings.Count(err.Error(), strings.TrimPrefix(server.URL, "http://")) > 2 || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("Lookup: %v", err)
	}
}

// Who has no place in a full directory is told so, and what to do; those who have one keep it.
func TestFull(t *testing.T) {
	clock := registrytest.NewClock()
	c := serve(t, &memory.Directory{MaxRecords: 1, Now: clock.Now}, clock.Now)
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	publish := func(k *identity.Key) error { return c.Publish(t.Context(), registrytest.Signed(t, k, clock.Now())) }
	if err := publish(ann); err != nil {
		t.Fatal(err)
	}
	err := publish(bob)
	if !errors.Is(err, registry.ErrFull) || !strings.Contains(err.Error(), "publish to another") {
		t.Errorf("Publish: %v, want ErrFull", err)
	}
	clock.Advance(time.Second)
	if err := publish(ann); err != nil {
		t.Error(err)
	}
}
