package httpregistry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// A world is a handler over a directory in memory, asked without a network in between.
type world struct {
	clock *registrytest.Clock
	dir   *memory.Directory
	h     http.Handler
}

func newWorld(o httpregistry.Options) *world {
	w := &world{clock: registrytest.NewClock()}
	w.dir = &memory.Directory{Now: w.clock.Now}
	o.Now = w.clock.Now
	w.h = httpregistry.NewHandler(w.dir, o)
	return w
}

func ask(h http.Handler, method, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	if method == http.MethodPut {
		r.Header.Set("Content-Type", httpregistry.RecordType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if from := r.Header.Get("From-Test"); from != "" {
		r.RemoteAddr = from
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (w *world) put(r *registry.Record, header ...string) *httptest.ResponseRecorder {
	return ask(w.h, http.MethodPut, "/v1/records/"+r.ID.String(), r.Marshal(), header...)
}

// wantAnswer checks the status and, when slug is not empty, that the answer is that problem.
func wantAnswer(t *testing.T, w *httptest.ResponseRecorder, status int, slug string) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	if slug == "" {
		return
	}
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if p.Type != "urn:splitmesh:problem:"+slug || p.Title == "" || p.Status != status {
		t.Errorf("problem %+v, want %q", p, slug)
	}
	if got := w.Header(); got.Get("Content-Type") != "application/problem+json" || got.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", got)
	}
}

// Every answer that the handler has, but those about tokens and rates, which have tests of their own.
func TestStatuses(t *testing.T) {
	w := newWorld(httpregistry.Options{PerRecord: unlimited})
	now := w.clock.Now()
	ann, bob, gone, old, nobody := registrytest.Key(t), registrytest.Key(t), registrytest.Key(t), registrytest.Key(t), registrytest.Key(t)
	named := func(k *identity.Key, at time.Time, name string) *registry.Record {
		r := registrytest.Draft(t, at)
		r.Name = name
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		return r
	}
	annNow, oldNow := named(ann, now, "ann"), registrytest.Signed(t, old, now.Add(-23*time.Hour))
	for _, r := range []*registry.Record{annNow, oldNow, registrytest.Signed(t, gone, now), registrytest.Revocation(t, gone, now)} {
		if err := w.dir.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Advance(2 * time.Hour) // old has expired
	now = w.clock.Now()
	at := func(k *identity.Key) string { return "/v1/records/" + k.ID().String() }
	flipped := annNow.Marshal()
	flipped[len(flipped)-1] ^= 1
	type header = []string
	for _, tc := range []struct {
		name, method, path string
		body               []byte
		header             header
		status             int
		slug               string
	}{
		{"found", "GET", at(ann), nil, nil, 200, ""},
		{"found by peer ID", "GET", "/v1/records/" + ann.ID().PeerID(), nil, nil, 200, ""},
		{"head", "HEAD", at(ann), nil, nil, 200, ""},
		{"revoked", "GET", at(gone), nil, nil, 200, ""},
		{"not modified", "GET", at(ann), nil, header{"If-None-Match", `"x", W/` + httpregistry.ETag(annNow.Marshal())}, 304, ""},
		{"not modified, any", "GET", at(ann), nil, header{"If-None-Match", `*`}, 304, ""},
		{"modified", "GET", at(ann), nil, header{"If-None-Match", `"x"`}, 200, ""},
		{"if match", "GET", at(ann), nil, header{"If-Match", `"x"`}, 412, "precondition"},
		{"not found", "GET", at(nobody), nil, nil, 404, "not-found"},
		{"not found, conditionally", "GET", at(nobody), nil, header{"If-None-Match", `*`}, 404, "not-found"},
		{"expired", "GET", at(old), nil, nil, 404, "expired"},
		{"no ID", "GET", "/v1/records/x", nil, nil, 400, "bad-request"},
		{"name", "GET", "/v1/names/ann", nil, nil, 200, ""},
		{"nobody's name", "GET", "/v1/names/zoe", nil, nil, 404, "not-found"},
		{"no name", "GET", "/v1/names/A.%2F", nil, nil, 404, "not-found"},
		{"list", "GET", "/v1/records", nil, nil, 200, ""},
		{"list, all said", "GET", "/v1/records?after=" + ann.ID().PeerID() + "&limit=1000&capability=relay", nil, nil, 200, ""},
		{"list after nobody", "GET", "/v1/records?after=x", nil, nil, 400, "bad-request"},
		{"list none", "GET", "/v1/records?limit=0", nil, nil, 400, "bad-request"},
		{"list a few", "GET", "/v1/records?limit=few", nil, nil, 400, "bad-request"},
		{"long capability", "GET", "/v1/records?capability=" + strings.Repeat("a", 33), nil, nil, 400, "bad-request"},
		{"elsewhere", "GET", "/v2/records", nil, nil, 404, "no-route"},
		{"root", "POST", "/", nil, nil, 404, "no-route"},
		{"delete", "DELETE", at(ann), nil, nil, 405, "method"},
		{"put into the list", "PUT", "/v1/records", annNow.Marshal(), nil, 405, "method"},
		{"put a name", "PUT", "/v1/names/ann", annNow.Marshal(), nil, 405, "method"},

		{"again", "PUT", at(ann), annNow.Marshal(), nil, 200, ""},
		{"again by peer ID", "PUT", "/v1/records/" + ann.ID().PeerID(), annNow.Marshal(), nil, 200, ""},
		{"other type", "PUT", at(ann), annNow.Marshal(), header{"Content-Type", "text/plain"}, 415, "media-type"},
		{"no type", "PUT", at(ann), annNow.Marshal(), header{"Content-Type", ""}, 415, "media-type"},
		{"under no ID", "PUT", "/v1/records/x", annNow.Marshal(), nil, 400, "bad-request"},
		{"under another's", "PUT", at(bob), annNow.Marshal(), nil, 422, "malformed"},
		{"nothing", "PUT", at(ann), nil, nil, 422, "malformed"},
		{"garbage", "PUT", at(ann), []byte("garbage"), nil, 422, "malformed"},
		{"forged", "PUT", at(ann), flipped, nil, 403, "bad-signature"},
		{"too large", "PUT", at(ann), make([]byte, registry.MaxSize+1), nil, 413, "too-large"},
		{"as large as may be", "PUT", at(ann), make([]byte, registry.MaxSize), nil, 422, "malformed"},
		{"expired", "PUT", at(old), oldNow.Marshal(), nil, 422, "expired"},
		{"from the future", "PUT", at(bob), registrytest.Signed(t, bob, now.Add(time.Hour)).Marshal(), nil, 422, "future"},
		{"older", "PUT", at(ann), named(ann, now.Add(-3*time.Hour), "ann").Marshal(), nil, 409, "rollback"},
		{"another's name", "PUT", at(bob), named(bob, now, "ann").Marshal(), nil, 409, "name-taken"},
		{"revoked key", "PUT", at(gone), registrytest.Signed(t, gone, now).Marshal(), nil, 410, "revoked"},
		{"older revocation", "PUT", at(gone), registrytest.Revocation(t, gone, now.Add(-9*time.Hour)).Marshal(), nil, 409, "rollback"},
		{"unless there is one", "PUT", at(ann), named(ann, now, "ann").Marshal(), header{"If-None-Match", "*"}, 412, "precondition"},
		{"if it is another", "PUT", at(ann), named(ann, now, "ann").Marshal(), header{"If-Match", `"x"`}, 412, "precondition"},
		{"if weakly the same", "PUT", at(ann), named(ann, now, "ann").Marshal(), header{"If-Match", "W/" + httpregistry.ETag(annNow.Marshal())}, 412, "precondition"},
		{"if there is one", "PUT", at(bob), named(bob, now, "").Marshal(), header{"If-Match", "*"}, 412, "precondition"},
		{"renewed", "PUT", at(ann), named(ann, now, "ann").Marshal(), header{"If-Match", httpregistry.ETag(annNow.Marshal())}, 200, ""},
		{"new", "PUT", at(bob), named(bob, now, "bob").Marshal(), header{"If-None-Match", "*"}, 201, ""},
		{"back again", "PUT", at(old), registrytest.Signed(t, old, now).Marshal(), nil, 201, ""},
		{"revocation", "PUT", at(bob), registrytest.Revocation(t, bob, now).Marshal(), nil, 200, ""},
	} {
		t.Run(tc.method+" "+tc.name, func(t *testing.T) {
			before, lookupErr := w.dir.Lookup(t.Context(), ann.ID())
			got := ask(w.h, tc.method, tc.path, tc.body, tc.header...)
			wantAnswer(t, got, tc.status, tc.slug)
			if tc.status == 405 && got.Header().Get("Allow") == "" {
				t.Error("no Allow")
			}
			if after, err := w.dir.Lookup(t.Context(), ann.ID()); tc.status >= 400 && (err != nil || lookupErr != nil || !after.Equal(before)) {
				t.Error("what was refused has changed the directory")
			}
		})
	}
}

// endless is a body that never ends, and counts what was read of it.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	if e.n += len(b); e.n > 1<<24 {
		return 0, errors.New("this much was read")
	}
	return len(b), nil
}

func TestEndlessBody(t *testing.T) {
	w := newWorld(httpregistry.Options{})
	var body endless
	r := httptest.NewRequest("PUT", "/v1/records/"+registrytest.Key(t).ID().String(), &body)
	r.Header.Set("Content-Type", httpregistry.RecordType)
	got := httptest.NewRecorder()
	w.h.ServeHTTP(got, r)
	if wantAnswer(t, got, 413, "too-large"); body.n > 16<<10 {
		t.Errorf("%d bytes were read", body.n)
	}
}

func TestPageIsBounded(t *testing.T) {
	w := newWorld(httpregistry.Options{})
	for range httpregistry.MaxPage + 1 {
		if err := w.dir.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), w.clock.Now())); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"", "?limit=1000"} {
		var page struct {
			Records [][]byte
			Next    string
		}
		got := ask(w.h, "GET", "/v1/records"+query, nil)
		if err := json.Unmarshal(got.Body.Bytes(), &page); err != nil || len(page.Records) != httpregistry.MaxPage || page.Next == "" {
			t.Errorf("%q: %d records, next %q, %v", query, len(page.Records), page.Next, err)
		}
	}
}

func TestRecordHeaders(t *testing.T) {
	w := newWorld(httpregistry.Options{MaxAge: time.Hour})
	key := registrytest.Key(t)
	r := registrytest.Draft(t, w.clock.Now())
	r.Expires = w.clock.Now().Add(90 * time.Minute).UnixMilli()
	if err := r.Sign(key); err != nil {
		t.Fatal(err)
	}
	put := w.put(r)
	wantAnswer(t, put, 201, "")
	get := func(method string) *httptest.ResponseRecorder {
		return ask(w.h, method, "/v1/records/"+key.ID().String(), nil)
	}
	for _, step := range []struct {
		pass time.Duration
		age  string
	}{{0, "max-age=3600"}, {31 * time.Minute, "max-age=3540"}, {58*time.Minute + 30500*time.Millisecond, "max-age=29"}} {
		w.clock.Advance(step.pass)
		got := get("GET")
		wantAnswer(t, got, 200, "")
		for name, want := range map[string]string{
			"Content-Type":           "application/vnd.splitmesh.record+cbor",
			"Content-Length":         strconv.Itoa(len(r.Marshal())),
			"ETag":                   httpregistry.ETag(r.Marshal()),
			"Last-Modified":          "Mon, 01 Jun 2026 12:00:00 GMT",
			"Cache-Control":          step.age,
			"X-Content-Type-Options": "nosniff",
		} {
			if got := got.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if !bytes.Equal(got.Body.Bytes(), r.Marshal()) {
			t.Error("the body is another")
		}
	}
	if got := put.Header().Get("ETag"); got != httpregistry.ETag(r.Marshal()) {
		t.Errorf("the ETag of the one published is %q", got)
	}
	// A record may be a little ahead of the server's clock, and Last-Modified may not.
	wantAnswer(t, w.put(registrytest.Signed(t, key, w.clock.Now().Add(time.Minute))), 200, "")
	if got := get("HEAD").Header().Get("Last-Modified"); got != w.clock.Now().Format(http.TimeFormat) {
		t.Errorf("Last-Modified is %q", got)
	}
	// A revocation does not end.
	wantAnswer(t, w.put(registrytest.Revocation(t, key, w.clock.Now())), 200, "")
	w.clock.Advance(72 * time.Hour)
	if got := get("GET").Header().Get("Cache-Control"); got != "max-age=3600" {
		t.Errorf("Cache-Control of a revocation is %q", got)
	}
}

// Over a connection HEAD is what GET is, without the body, and 304 has none.
func TestHead(t *testing.T) {
	w := newWorld(httpregistry.Options{})
	r := registrytest.Signed(t, registrytest.Key(t), w.clock.Now())
	wantAnswer(t, w.put(r), 201, "")
	server := httptest.NewServer(w.h)
	defer server.Close()
	for _, tc := range []struct {
		unless string
		status int
		length int64
	}{{"", 200, int64(len(r.Marshal()))}, {httpregistry.ETag(r.Marshal()), 304, -1}} {
		req, err := http.NewRequestWithContext(t.Context(), "HEAD", server.URL+"/v1/records/"+r.ID.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", tc.unless)
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.status || tc.length >= 0 && resp.ContentLength != tc.length || len(body) != 0 || err != nil {
			t.Errorf("HEAD: %s, length %d, %d bytes, %v", resp.Status, resp.ContentLength, len(body), err)
		}
	}
}

// A directory that has nothing but the basic seam, and fails as it is told.
type plain struct {
	registry.Directory
	err error
}

func (p plain) Lookup(context.Context, identity.ID) (*registry.Record, error) { return nil, p.err }
func (p plain) Publish(context.Context, *registry.Record) error               { return p.err }

func TestDirectoryFails(t *testing.T) {
	clock := registrytest.NewClock()
	var log bytes.Buffer
	o := httpregistry.Options{Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	h := httpregistry.NewHandler(plain{err: errors.New("disk of db7.internal is gone")}, o)
	r := registrytest.Signed(t, registrytest.Key(t), clock.Now())
	path := "/v1/records/" + r.ID.String()
	for _, got := range []*httptest.ResponseRecorder{ask(h, "GET", path, nil), ask(h, "PUT", path, r.Marshal())} {
		wantAnswer(t, got, 503, "unavailable")
		if strings.Contains(got.Body.String(), "db7") {
			t.Errorf("the answer tells what only the log is to: %s", got.Body)
		}
	}
	if n := strings.Count(log.String(), "db7"); n != 2 {
		t.Errorf("the log tells of it %d times: %s", n, log.String())
	}
	wantAnswer(t, ask(h, "GET", "/v1/names/ann", nil), 501, "unsupported")
	wantAnswer(t, ask(h, "GET", "/v1/records", nil), 501, "unsupported")

	// One of several fails, and another refuses the record.
	several := errors.Join(errors.New("directory 1: disk of db7.internal is gone"), registry.ErrRollback)
	h = httpregistry.NewHandler(plain{err: &registry.RecordError{Op: "publish", ID: r.ID, Err: several}}, o)
	got := ask(h, "GET", path, nil)
	wantAnswer(t, got, 409, "rollback")
	if strings.Contains(got.Body.String(), "db7") {
		t.Errorf("the answer tells what only the operator is to know: %s", got.Body)
	}

	// One that is full has not failed, and its operator is told too.
	full := &memory.Directory{MaxRecords: 1, Now: clock.Now}
	h = httpregistry.NewHandler(full, o)
	wantAnswer(t, ask(h, "PUT", path, r.Marshal()), 201, "")
	r = registrytest.Signed(t, registrytest.Key(t), clock.Now())
	log.Reset()
	wantAnswer(t, ask(h, "PUT", "/v1/records/"+r.ID.String(), r.Marshal()), 507, "full")
	if !strings.Contains(log.String(), "the directory is full") {
		t.Errorf("the log does not tell that it is full: %s", log.String())
	}
	// A clock that was set back: the record is there, and from the future.
	clock.Advance(-time.Hour)
	wantAnswer(t, ask(h, "GET", path, nil), 404, "future")
}
