package mesh_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// A fickle authority changes its mind.
type fickle struct {
	mu  sync.Mutex
	st  registry.Standing
	err error
}

func (f *fickle) Standing(context.Context, identity.ID) (registry.Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st, f.err
}

func (f *fickle) set(st registry.Standing, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.st, f.err = st, err
}

// TestStandingIsAskedAgain: a conn ends, at both ends, within minutes of the peer's
// losing its standing, and not for a while of an authority that is out of reach.
func TestStandingIsAskedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(*testing.T, *fickle, registry.Directory)
		least    time.Duration // that the conn lives on; 0: for good
		most     time.Duration
		asker    string // who has the authority
		comeBack bool
	}{
		"revoked, accepted":  {change: func(_ *testing.T, f *fickle, _ registry.Directory) { f.set(registry.Revoked, nil) }, most: 6 * time.Minute, asker: "server"},
		"unknown, dialled":   {change: func(_ *testing.T, f *fickle, _ registry.Directory) { f.set(registry.Unknown, nil) }, most: 6 * time.Minute, asker: "client"},
		"key revoked":        {change: func(t *testing.T, _ *fickle, d registry.Directory) { revoke(t, d, 1) }, most: 6 * time.Minute},
		"out of reach":       {change: func(_ *testing.T, f *fickle, _ registry.Directory) { f.set(registry.Active, errAuthority) }, least: 9 * time.Minute, most: 16 * time.Minute, asker: "server"},
		"out of reach a bit": {change: func(_ *testing.T, f *fickle, _ registry.Directory) { f.set(registry.Active, errAuthority) }, asker: "server", comeBack: true},
		"in good standing":   {change: func(*testing.T, *fickle, registry.Directory) {}, asker: "server"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := memory.NewNetwork(memory.Options{})
				defer wire.Close()
				auth := &fickle{st: registry.Active}
				dir := directory.New()
				server := &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/1")}, Transports: []transport.Transport{wire.Transport()}, Directory: dir}
				client := &mesh.Node{Identity: key(t, 2), Transports: []transport.Transport{wire.Transport()}, Directory: dir}
				switch tt.asker {
				case "server":
					server.Authority = auth
				case "client":
					client.Authority = auth
				}
				start(t, server)
				l := listen(t, server, "x", 0)
				synctest.Wait() // the record is published
				dialled, accepted := connect(t, &mesh.Dialer{Node: client}, l)
				tt.change(t, auth, dir)
				begun := time.Now()
				if tt.comeBack {
					time.Sleep(9 * time.Minute)
					auth.set(registry.Active, nil)
				}
				var wg sync.WaitGroup
				for _, c := range []*mesh.Conn{dialled, accepted} {
					wg.Go(func() {
						c.SetReadDeadline(begun.Add(time.Hour))
						_, err := c.Read(make([]byte, 1))
						lived := time.Since(begun)
						if timeout := lived >= time.Hour; timeout != (tt.most == 0) || !timeout && (lived < tt.least || lived > tt.most || errors.Is(err, io.EOF)) {
							t.Errorf("it lived for %v: %v", lived, err)
						}
					})
				}
				wg.Wait()
				client.Close()
				server.Close()
			})
		})
	}
}

// revoke publishes the revocation of the n-th key.
func revoke(t *testing.T, d registry.Directory, n int) {
	t.Helper()
	r := &registry.Record{Sequence: time.Now().UnixMilli(), Expires: time.Now().UnixMilli() + 1, Revoked: true}
	if err := r.Sign(key(t, n)); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}
