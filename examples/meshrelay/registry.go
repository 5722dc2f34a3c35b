package main

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/registry/file"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
)

// A directoryServer serves a registry, and the relay's own record for who begins with its web server's name.
type directoryServer struct {
	dir     registry.Directory
	close   func() error
	handler atomic.Pointer[http.Handler] // changes on SIGHUP
	own     func() *registry.Record
}

// newDirectoryServer returns nil when none is wanted.
func newDirectoryServer(s *registrySettings, state *program.State, log *slog.Logger) (*directoryServer, error) {
	if s.Serve == "" {
		_, _, err := s.tokens() // what is wrong is told before somebody relies on it
		return nil, err
	}
	d := &directoryServer{close: func() error { return nil }}
	if s.Keep == "file" {
		f := &file.Directory{Path: state.Path("records"), MaxRecords: s.MaxRecords, Logger: log}
		d.dir, d.close = f, f.Close
	} else {
		d.dir = &memory.Directory{MaxRecords: s.MaxRecords}
	}
	use, err := d.reload(s, log)
	if err != nil {
		return nil, err
	}
	use()
	return d, nil
}

// reload makes the handler of the settings, and returns what puts it to use. The counts of its limits begin anew.
func (d *directoryServer) reload(s *registrySettings, log *slog.Logger) (use func(), err error) {
	if d == nil {
		return func() {}, nil
	}
	o := httpregistry.Options{Logger: log, PerAddress: httpregistry.Rate{Every: time.Second / time.Duration(s.Requests), Burst: 10 * s.Requests}}
	if o.ReadToken, o.WriteToken, err = s.tokens(); err != nil {
		return nil, err
	}
	if s.ClientHeader != "" {
		o.ClientAddr = clientAddr(s.ClientHeader)
	}
	h := httpregistry.NewHandler(d.dir, o)
	return func() { d.handler.Store(&h) }, nil
}

// tokens are those of readers and of who publishes.
func (s *registrySettings) tokens() (read, write httpregistry.Token, err error) {
	r, err := node.SecretOf("registry.read-token-file", s.ReadTokenFile)
	if err != nil {
		return "", "", err
	}
	w, err := node.SecretOf("registry.write-token-file", s.WriteTokenFile)
	return httpregistry.Token(r), httpregistry.Token(w), err
}

// clientAddr reads the address of the client in a header that a proxy writes: the last of a list, which is the proxy's own
// word. What stands before it may be anybody's.
func clientAddr(header string) func(*http.Request) netip.Addr {
	return func(r *http.Request) netip.Addr {
		all := r.Header.Values(header)
		if len(all) == 0 {
			return netip.Addr{}
		}
		last := all[len(all)-1]
		a, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
		if err != nil {
			return netip.Addr{} // such share one bucket
		}
		return a
	}
}

// maxOwnAge is how long the relay's own record is served before it is signed anew.
const maxOwnAge = time.Minute

// serveOwn has the node's record at the well-known path, signed once a minute at most. How old it is says the time since,
// not its sequence: that is of a clock that may have been ahead, and was put right.
func (d *directoryServer) serveOwn(sign func() (*registry.Record, error), log *slog.Logger) {
	type signed struct {
		*registry.Record
		at time.Time
	}
	var last atomic.Pointer[signed]
	d.own = func() *registry.Record {
		if r := last.Load(); r != nil && time.Since(r.at) < maxOwnAge {
			return r.Record
		}
		r, err := sign()
		if err != nil {
			log.Warn("no record of this relay", "err", err)
			return nil
		}
		last.Store(&signed{r, time.Now()})
		return r
	}
}

// routes adds what it serves to a mux.
func (d *directoryServer) routes(mux *http.ServeMux, wrap func(http.Handler) http.Handler) {
	mux.Handle("/v1/", wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*d.handler.Load()).ServeHTTP(w, r) })))
	mux.Handle(bootstrap.WellKnown, bootstrap.Handler(func() *registry.Record { return d.own() }))
}
