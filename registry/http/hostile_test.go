package httpregistry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// A hostile server answers as it is told, and notes what it was asked.
type hostile struct {
	*httpregistry.Client
	clock  *registrytest.Clock
	key    *identity.Key
	answer http.HandlerFunc
	asked  []*http.Request
}

func newHostile(t *testing.T) *hostile {
	s := &hostile{clock: registrytest.NewClock(), key: registrytest.Key(t)}
	s.Client = connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = append(s.asked, r)
		s.answer(w, r)
	}), s.clock.Now)
	return s
}

// says makes the server answer with the body, whatever it is asked.
func (s *hostile) says(status int, contentType string, body []byte, header ...string) {
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func (s *hostile) shows(r *registry.Record) { s.says(200, httpregistry.RecordType, r.Marshal()) }

// page makes the server answer with a page of the records.
func (s *hostile) page(t *testing.T, next string, records ...*registry.Record) {
	t.Helper()
	var encoded [][]byte
	for _, r := range records {
		encoded = append(encoded, r.Marshal())
	}
	body, err := json.Marshal(map[string]any{"records": encoded, "next": next})
	if err != nil {
		t.Fatal(err)
	}
	s.says(200, "application/json", body)
}

// version returns s.key's record of so many milliseconds after now.
func (s *hostile) version(t *testing.T, ms int) *registry.Record {
	return registrytest.Signed(t, s.key, s.clock.Now().Add(time.Duration(ms)*time.Millisecond))
}

func (s *hostile) finds(t *testing.T, want *registry.Record) {
	t.Helper()
	if got, err := s.Lookup(t.Context(), want.ID); err != nil || !got.Equal(want) {
		t.Fatalf("Lookup: %v, %v", got, err)
	}
}

// refuses checks that Lookup fails, with want unless that is nil, and says all that.
func (s *hostile) refuses(t *testing.T, want error, says ...string) {
	t.Helper()
	got, err := s.Lookup(t.Context(), s.key.ID())
	if got != nil || err == nil {
		t.Fatalf("Lookup: %v, %v", got, err)
	}
	if want != nil {
		wantError(t, err, want)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error is %q, without %q", err, s)
		}
	}
}

func TestAnswersThatAreNoRecord(t *testing.T) {
	s := newHostile(t)
	good := s.version(t, 0).Marshal()
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for _, tc := range []struct {
		name        string
		status      int
		contentType string
		body        []byte
		want        error
		says        string
	}{
		{"garbage", 200, httpregistry.RecordType, []byte("garbage"), registry.ErrMalformed, "something else"},
		{"nothing", 200, httpregistry.RecordType, nil, registry.ErrMalformed, "something else"},
		{"forged", 200, httpregistry.RecordType, forged, registry.ErrBadSignature, ""},
		{"cut", 200, httpregistry.RecordType, good[:len(good)-1], registry.ErrMalformed, ""},
		{"longer", 200, httpregistry.RecordType, append(bytes.Clone(good), 0), registry.ErrMalformed, ""},
		{"another's", 200, httpregistry.RecordType, registrytest.Signed(t, registrytest.Key(t), s.clock.Now()).Marshal(), registry.ErrMalformed, "of another"},
		{"from the future", 200, httpregistry.RecordType, s.version(t, 11*60*1000).Marshal(), registry.ErrFuture, ""},
		{"large", 200, httpregistry.RecordType, make([]byte, registry.MaxSize+1), registry.ErrTooLarge, "4096"},
		{"a web page", 200, "text/html", []byte("<html>"), nil, `"text/html"`},
		{"a good record of another type", 200, "application/octet-stream", good, nil, "check the URL"},
		{"a good record with no content", 203, httpregistry.RecordType, good, nil, "203"},
		{"not modified, though nothing was said to be known", 304, "", nil, nil, "304"},
		{"a redirect to nowhere", 302, "", nil, nil, "set URL"},
		{"an error of a proxy", 502, "text/html", make([]byte, 1<<20), nil, "502 Bad Gateway, as no directory"},
		{"a problem that is none", 404, "application/problem+json", []byte("{"), nil, "404"},
		{"a huge problem", 404, "application/problem+json", []byte(`{"type":"urn:splitmesh:problem:not-found","title":"` + strings.Repeat("x", 5000) + `"}`), nil, "404"},
		{"a problem of others", 404, "application/problem+json", []byte(`{"type":"not-found","detail":"\u001b[31m"}`), nil, `"\x1b[31m"`},
		{"a page that is not found", 404, "text/plain", []byte("404 page not found"), nil, "check the URL"},
		{"expired", 200, httpregistry.RecordType, s.version(t, -24*3600*1000).Marshal(), registry.ErrExpired, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.says(tc.status, tc.contentType, tc.body)
			got, err := s.Lookup(t.Context(), s.key.ID())
			if err == nil || got != nil {
				t.Fatalf("Lookup: %v, %v", got, err)
			}
			if tc.want != nil {
				wantError(t, err, tc.want)
			} else if errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%v says that the peer is offline", err)
			}
			if !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 1000 {
				t.Errorf("the error is %q, without %q or too long", err, tc.says)
			}
		})
	}
	// None of it counts for anything afterwards.
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if tag := r.Header.Get("If-None-Match"); tag != "" && tag != httpregistry.ETag(s.version(t, -24*3600*1000).Marshal()) {
			t.Errorf("the client has kept what has the tag %s", tag)
		}
		w.Header().Set("Content-Type", httpregistry.RecordType)
		_, _ = w.Write(good)
	}
	s.finds(t, s.version(t, 0))
}

// What is too large is not read to its end.
func TestHugeBody(t *testing.T) {
	s := newHostile(t)
	for _, status := range []int{200, 500} {
		cut := make(chan error, 1)
		s.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", httpregistry.RecordType)
			w.WriteHeader(status)
			var err error
			for range 64 {
				if _, err = w.Write(make([]byte, 1<<20)); err != nil {
					break
				}
			}
			cut <- err
		}
		s.refuses(t, nil)
		if <-cut == nil {
			t.Errorf("status %d: the client took 64 MiB", status)
		}
	}
}

func TestHugeHeader(t *testing.T) {
	s := newHostile(t)
	s.HTTPClient = nil
	defer httpregistry.DefaultClient.CloseIdleConnections()
	good := s.version(t, 0)
	s.says(200, httpregistry.RecordType, good.Marshal(), "X-Large", strings.Repeat("x", 1<<20))
	if r, err := s.Lookup(t.Context(), s.key.ID()); err == nil {
		t.Errorf("Lookup: %v", r)
	}
	s.shows(good)
	s.finds(t, good)
}

// Whoever showed the newer record first: from then on an older one is refused.
func TestRollback(t *testing.T) {
	for name, learn := range map[string]func(t *testing.T, s *hostile, r *registry.Record){
		"looked up": func(t *testing.T, s *hostile, r *registry.Record) {
			s.shows(r)
			s.finds(t, r)
		},
		"published": func(t *testing.T, s *hostile, r *registry.Record) {
			s.says(200, "", nil)
			if err := s.Publish(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		},
		"listed": func(t *testing.T, s *hostile, r *registry.Record) {
			s.page(t, "", r)
			if page, _, err := s.List(t.Context(), identity.ID{}, 1, ""); err != nil || len(page) != 1 {
				t.Fatalf("List: %v, %v", page, err)
			}
		},
		"looked up, as it had ended": func(t *testing.T, s *hostile, r *registry.Record) {
			ended := registrytest.Draft(t, time.UnixMilli(r.Sequence))
			ended.Expires = ended.Sequence + 1
			if err := ended.Sign(s.key); err != nil {
				t.Fatal(err)
			}
			s.clock.Advance(time.Second)
			s.shows(ended)
			s.refuses(t, registry.ErrExpired)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHostile(t)
			older, newer, newest := s.version(t, 0), s.version(t, 1), s.version(t, 2)
			learn(t, s, newer)
			for range 2 {
				s.shows(older)
				s.refuses(t, registry.ErrRollback, "a newer record is known", strings.TrimPrefix(s.URL, "http://"))
				s.page(t, "", older)
				page, _, err := s.List(t.Context(), identity.ID{}, 1, "")
				if err != nil || slices.ContainsFunc(page, older.Equal) {
					t.Errorf("List: %v, %v", page, err)
				}
				s.says(200, "", nil)
				wantError(t, s.Publish(t.Context(), older), registry.ErrRollback)
			}
			s.shows(newest)
			s.finds(t, newest)
		})
	}
}

func TestRevocationStays(t *testing.T) {
	s := newHostile(t)
	revocation := registrytest.Revocation(t, s.key, s.clock.Now())
	s.shows(revocation)
	s.finds(t, revocation)
	s.clock.Advance(time.Hour)
	s.shows(s.version(t, 0))
	s.finds(t, revocation)
	s.page(t, "", s.version(t, 0))
	if page, _, err := s.List(t.Context(), identity.ID{}, 1, ""); err != nil || len(page) != 1 || !page[0].Revoked {
		t.Errorf("List: %v, %v", page, err)
	}
	s.says(404, "text/plain", nil)
	s.finds(t, revocation)
	s.says(200, "", nil)
	wantError(t, s.Publish(t.Context(), s.version(t, 1)), registry.ErrRollback)
	if len(s.asked) != 2 {
		t.Errorf("%d requests, and the answer was known but to 2", len(s.asked))
	}
}

// What the server says of its ETags is of no interest: the client computes its own.
func TestWrongETags(t *testing.T) {
	s := newHostile(t)
	first, second := s.version(t, 0), s.version(t, 1)
	var want string
	show := func(r *registry.Record, tag string) {
		s.answer = func(w http.ResponseWriter, q *http.Request) {
			if got := q.Header.Get("If-None-Match"); got != want {
				t.Errorf("If-None-Match is %q, want %q", got, want)
			}
			w.Header().Set("Etag", tag)
			w.Header().Set("Content-Type", httpregistry.RecordType)
			_, _ = w.Write(r.Marshal())
		}
	}
	show(first, httpregistry.ETag(second.Marshal()))
	s.finds(t, first)
	want = httpregistry.ETag(first.Marshal())
	show(first, "nonsense")
	s.finds(t, first)
	show(second, want)
	s.finds(t, second)
	// That nothing has changed holds until it has ended.
	s.says(304, "", nil, "Etag", want)
	s.finds(t, second)
	s.clock.Advance(25 * time.Hour)
	s.refuses(t, registry.ErrExpired)
}

func TestConditionalGet(t *testing.T) {
	s := newHostile(t)
	w := newWorld(httpregistry.Options{})
	s.clock, s.Now = w.clock, w.clock.Now
	statuses := []int{}
	s.answer = func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, r)
		statuses = append(statuses, rec.Code)
		for k, v := range rec.Header() {
			rw.Header()[k] = v
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
	}
	first, second := s.version(t, 0), s.version(t, 1)
	for _, r := range []*registry.Record{first, second} {
		if err := w.dir.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		s.finds(t, r)
		s.finds(t, r)
	}
	if want := []int{200, 304, 200, 304}; !slices.Equal(statuses, want) {
		t.Errorf("statuses %v, want %v", statuses, want)
	}
}

// blocked is a server that never finishes: a body of which nothing comes, until the request is given up.
type blocked struct{}

func (blocked) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	context.AfterFunc(r.Context(), func() { pw.CloseWithError(context.Cause(r.Context())) })
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {httpregistry.RecordType}}, Body: pr, Request: r}, nil
}

func TestSlowBody(t *testing.T) {
	id := registrytest.Key(t).ID()
	synctest.Test(t, func(t *testing.T) {
		c := &httpregistry.Client{URL: "http://directory.example", HTTPClient: &http.Client{Transport: blocked{}}}
		begun := time.Now()
		_, err := c.Lookup(t.Context(), id)
		if d := time.Since(begun); err == nil || d != httpregistry.Timeout || !strings.Contains(err.Error(), "no complete answer within 30s") {
			t.Errorf("after %v: %v", d, err)
		}
		// The caller's own end comes first, and is told as such, whatever its cause.
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("tired"))
		defer cancel()
		if _, err := c.Lookup(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lookup: %v", err)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	const secret = "the token"
	var led []*http.Request
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { led = append(led, r) }))
	defer elsewhere.Close()
	s := newHostile(t)
	s.Token = secret
	r := s.version(t, 0)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere.URL, s.URL + "/there", "//evil.invalid/"} {
			s.says(status, "", nil, "Location", to)
			s.refuses(t, nil, "redirects are not followed; set URL")
			if err := s.Publish(t.Context(), r); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
				t.Errorf("Publish: %v", err)
			}
		}
	}
	if len(led) != 0 || len(s.asked) != 5*3*2 {
		t.Errorf("%d requests led elsewhere, and %d came, want %d", len(led), len(s.asked), 5*3*2)
	}
	for _, q := range s.asked {
		if got := q.Header.Get("Authorization"); got != "Bearer "+secret {
			t.Errorf("Authorization is %q", got)
		}
	}
	s.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { panic("the caller's") } // and it stays so
	s.refuses(t, nil, "redirects are not followed")
}
