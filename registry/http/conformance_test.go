package httpregistry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unlimited is what tests are served with that are not about limits.
var unlimited = httpregistry.Rate{Every: time.Nanosecond, Burst: 1 << 30}

// serve returns a client of a server of the directory.
func serve(t *testing.T, dir registry.Directory, now func() time.Time) *httpregistry.Client {
	t.Helper()
	return connect(t, httpregistry.NewHandler(dir, httpregistry.Options{PerAddress: unlimited, PerRecord: unlimited, PerNewcomer: unlimited, Now: now}), now)
}

// connect returns a client of a server with the handler.
func connect(t *testing.T, h http.Handler, now func() time.Time) *httpregistry.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &httpregistry.Client{URL: server.URL, HTTPClient: server.Client(), Now: now}
}

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return serve(t, &memory.Directory{Now: now}, now)
	})
}

// A client is a directory like any other, so it can be served too.
func TestServedOnwards(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return serve(t, serve(t, &memory.Directory{Now: now}, now), now)
	})
}

// The server's clock is its own: what the client takes, the server may refuse, by name.
func TestClocksApart(t *testing.T) {
	clock, key := registrytest.NewClock(), registrytest.Key(t)
	dir := &memory.Directory{Now: clock.Now}
	late := func() time.Time { return clock.Now().Add(registry.MaxSkew + time.Second) }
	c := serve(t, dir, clock.Now)
	c.Now = late
	wantError(t, c.Publish(t.Context(), registrytest.Signed(t, key, late())), registry.ErrFuture)
	early := func() time.Time { return clock.Now().Add(-25 * time.Hour) }
	c = serve(t, dir, clock.Now)
	c.Now = early
	wantError(t, c.Publish(t.Context(), registrytest.Signed(t, key, early())), registry.ErrExpired)
}
