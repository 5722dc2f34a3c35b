package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
)

// A relay is the program at work.
type relay struct {
	app   *program.App
	log   *slog.Logger
	since time.Time

	node      *node.Node
	settings  *node.Settings   // of it
	certs     *certificates    // nil: none
	directory *directoryServer // nil: none
	measures  *measures
	closers   []func() error // in the order in which things were opened

	ready, draining atomic.Bool
	patience        atomic.Int64  // time.Duration of a drain
	end             chan struct{} // closed when somebody wants it to drain and end
	askEnd          sync.Once
	drained         chan struct{} // closed when it has
}

// gcPercent makes the heap half as large again as what is in use, not twice: a relay holds much and allocates little, so
// that what a thousand peers leave behind who came at once would be there for minutes.
const gcPercent = 50

// run is the program's life: start, heed signals, drain, end.
func run(ctx context.Context, a *program.App, s *settings) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before all else: who reloads early is not to kill it
	defer signal.Stop(hup)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	state, err := a.Open()
	if err != nil {
		return err
	}
	defer state.Close()
	r := &relay{app: a, log: a.Log, since: time.Now(), end: make(chan struct{}), drained: make(chan struct{})}
	r.measures = newMeasures(r.draining.Load)
	switch err := r.start(ctx, s, state); {
	case err != nil && ctx.Err() != nil: // it was told to end, and so it does
		r.log.Info("ended before it was ready", "err", err)
		return r.close()
	case err != nil:
		return errors.Join(err, r.close())
	}
	r.ready.Store(true)
	r.log.Info("the relay is ready", "id", r.node.ID().String(), "state", state.Dir)
	for {
		select {
		case <-hup:
			if err := r.reload(); err != nil {
				r.log.Error("nothing reloaded: the settings in use stay", "err", err)
			}
			continue
		case <-ctx.Done():
		case <-r.end:
		}
		break
	}
	r.drain()
	return r.close()
}

// start opens everything. What was opened when it fails is for close.
func (r *relay) start(ctx context.Context, s *settings, state *program.State) (err error) {
	r.patience.Store(int64(s.Drain.Timeout))
	limits, err := newAccess(&s.Relay)
	if err != nil {
		return &program.Error{Status: program.Settings, Err: err}
	}
	trace, err := r.newTraces(ctx, &s.Trace)
	if err != nil {
		return err
	}
	if err := r.monitor(ctx, &s.Monitor); err != nil {
		return err
	}
	if r.certs, err = newCertificates(s, state, r.log); err != nil {
		return &program.Error{Status: program.Settings, Err: err}
	}
	if r.certs != nil {
		r.closers = append(r.closers, func() error { r.certs.close(); return nil })
		r.measures.ofCertificates(r.certs)
	}
	if r.directory, err = newDirectoryServer(&s.Registry, state, r.log); err != nil {
		return err
	}
	pages, err := r.pages(ctx, s, trace)
	if err != nil {
		return err
	}
	cfg := s.Relay.config(limits.ask())
	r.settings = &s.Node
	r.node, err = node.Open(ctx, &s.Node, state, r.log, func(n *mesh.Node) {
		n.Relay = &cfg
		n.Transports = []transport.Transport{r.site(s, pages), &tcp.Transport{}}
		if d := r.directory; d != nil {
			d.serveOwn(n.Record, r.log)
			r.publishAt(n, d.dir)
		}
	})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, r.node.Close)
	r.measures.ofNode(r.node.Node)
	if r.certs != nil && r.certs.manage != nil {
		if err := r.certs.manage(context.WithoutCancel(ctx)); err != nil { // it ends with the cache
			return fmt.Errorf("tls.acme-domains: %w", err)
		}
	}
	asked, err := admin.Listen(state.Dir, trace("admin", r.adminHandler()))
	if err != nil {
		return err
	}
	r.closers = append(r.closers, asked.Close)
	for _, a := range r.addrs() {
		r.log.Info("others begin with", "bootstrap", a)
	}
	return nil
}

// addrs are what others put into bootstrap: of 0.0.0.0, the addresses that this machine has.
func (r *relay) addrs() (out []string) {
	if rec, err := r.node.Record(); err == nil {
		for _, a := range rec.Addrs {
			out = append(out, transport.WithPeer(a, rec.ID).String())
		}
	}
	if len(out) == 0 {
		for _, a := range r.node.Addrs() {
			out = append(out, a.String())
		}
	}
	return out
}

// pages are what strangers see, with the registry if it is there.
func (r *relay) pages(ctx context.Context, s *settings, trace func(string, http.Handler) http.Handler) (http.Handler, error) {
	var pages http.Handler = http.NotFoundHandler()
	if s.Site.Root != "" {
		root, err := os.OpenRoot(s.Site.Root)
		if err != nil {
			return nil, &program.Error{Status: program.Settings, Err: fmt.Errorf("site.root: %w", err)}
		}
		r.closers = append(r.closers, root.Close)
		pages = http.FileServerFS(website{root.FS()})
	}
	if r.directory == nil {
		return pages, nil
	}
	r.closers = append(r.closers, r.directory.close)
	mux := http.NewServeMux()
	r.directory.routes(mux, func(h http.Handler) http.Handler { return trace("registry", r.measures.count(h)) })
	if s.Registry.Serve != atSite {
		return pages, r.serve(ctx, "registry", s.Registry.Serve, mux)
	}
	mux.Handle("/", pages)
	return mux, nil
}

// site is the transport whose listener serves the pages.
func (r *relay) site(s *settings, pages http.Handler) *site {
	out := &site{pages: pages, log: r.log}
	if r.certs != nil {
		out.tls = r.certs.config
	}
	switch announced := s.Site.Announce.Multiaddr; {
	case announced != nil:
		out.announce = func(multiaddr.Multiaddr) multiaddr.Multiaddr { return announced }
	case len(s.TLS.Domains) > 0: // the certificate is for the name
		out.announce = func(bound multiaddr.Multiaddr) multiaddr.Multiaddr {
			if _, secure := isWeb(bound); !secure {
				return bound
			}
			name, err := multiaddr.NewComponent("dns", s.TLS.Domains[0])
			if err != nil { // which Validate has ruled out
				return bound
			}
			return append(multiaddr.Multiaddr{*name}, bound[1:]...)
		}
	}
	return out
}

// publishAt has the node's record in the registry that it serves, too, and found there.
func (r *relay) publishAt(n *mesh.Node, own registry.Directory) {
	if n.Directory == nil {
		n.Directory = own
		return
	}
	both := &multi.Directory{Directories: []registry.Directory{own, n.Directory}}
	r.closers = append(r.closers, both.Close)
	n.Directory = both
}

// reload reads the settings again. All of what changed counts from now on, or none does.
func (r *relay) reload() error {
	fresh := defaults()
	changed, err := r.app.Reload(fresh)
	if err != nil {
		return err
	}
	limits, err := newAccess(&fresh.Relay)
	if err != nil {
		return err
	}
	useCerts, err := r.certs.reload(&fresh.TLS)
	if err != nil {
		return err
	}
	useRegistry, err := r.directory.reload(&fresh.Registry, r.log)
	if err != nil {
		return err
	}
	if err := r.node.SetRelay(fresh.Relay.config(limits.ask())); err != nil {
		return err
	}
	useCerts()
	useRegistry()
	r.patience.Store(int64(fresh.Drain.Timeout))
	r.app.SetLevel(fresh.Log.Level)
	r.log.Info("settings read again", "put_out", r.putOut(limits))
	for _, path := range slices.DeleteFunc(changed, func(p string) bool { return !needsRestart(p) }) {
		r.log.Warn("this setting has changed, and counts from the next start on", "setting", path)
	}
	return nil
}

// putOut ends the sessions of those who reserved or dialled, and may not any more. It returns how many peers that were.
func (r *relay) putOut(limits *access) int {
	unwanted := make(map[identity.ID]bool)
	for _, id := range r.node.Reserved() {
		unwanted[id] = !limits.allows(id)
	}
	for _, c := range r.node.Circuits() {
		unwanted[c.Source] = !limits.allows(c.Source)
	}
	maps.DeleteFunc(unwanted, func(_ identity.ID, out bool) bool { return !out })
	room := make(chan struct{}, 64)
	var all sync.WaitGroup
	for id := range unwanted {
		room <- struct{}{}
		all.Go(func() { // ends within a second
			r.node.Disconnect(id)
			<-room
		})
	}
	all.Wait()
	return len(unwanted)
}

// drain has peers move to other relays, and returns when they have, or it took too long.
func (r *relay) drain() {
	r.draining.Store(true)
	patience := time.Duration(r.patience.Load())
	r.log.Info("draining: peers move to other relays", "circuits", r.node.Stats().Relay.Circuits, "timeout", patience)
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(patience, time.Nanosecond))
	defer cancel()
	if err := r.node.Drain(ctx); err != nil {
		r.log.Warn("some peers have not moved", "err", err)
	} else {
		r.log.Info("drained")
	}
	close(r.drained)
}

// close closes everything, what was opened last first.
func (r *relay) close() error {
	var errs []error
	for _, f := range slices.Backward(r.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
