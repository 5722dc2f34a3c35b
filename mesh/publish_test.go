package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// TestRecordOfLongAddresses: relays with addresses that leave no room for others keep
// nobody from publishing, and honest ones are in the record beside them.
func TestRecordOfLongAddresses(t *testing.T) {
	long := multiaddr.StringCast("/ip4/203.0.113.1/tcp/443/tls/ws/http-path/" + strings.Repeat("x", 3900))
	for name, hostile := range map[string]multiaddr.Multiaddr{
		"long": long,
		"big":  multiaddr.StringCast("/ip4/203.0.113.1/tcp/443/tls/ws/http-path/" + strings.Repeat("x", 1400)),
		"many": multiaddr.StringCast("/ip4/203.0.113.1/tcp/1" + strings.Repeat("/ws", registry.MaxComponents-2)),
	} {
		n := new(Node)
		n.init()
		for i := range 3 {
			k, err := identity.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			id := k.ID()
			rec := &registry.Record{ID: id, Addrs: []multiaddr.Multiaddr{hostile}}
			if i == 0 {
				rec.Addrs[0] = multiaddr.StringCast("/ip4/198.51.100.1/tcp/443")
			}
			n.found[id], n.reservations[id] = rec, new(session.Session)
		}
		rec, err := n.Record()
		if err != nil || len(rec.Addrs) != 1 {
			t.Errorf("%s: %v, %v", name, rec, err)
		}
		n.Bootstrap = []multiaddr.Multiaddr{long.Encapsulate(multiaddr.StringCast("/p2p/" + n.id.PeerID()))}
		n.reservations[n.id] = new(session.Session)
		if _, err := n.Record(); err != nil {
			t.Errorf("%s, and in Bootstrap: %v", name, err)
		}
	}
}

// TestFitting: own addresses, of which a machine with containers has many, leave room for
// those by which a node behind a translation is reached at all.
func TestFitting(t *testing.T) {
	several := func(n int, format string) (out []multiaddr.Multiaddr) {
		for i := range n {
			out = append(out, multiaddr.StringCast(fmt.Sprintf(format, i)))
		}
		return out
	}
	own, others := several(30, "/ip4/172.17.%d.1/tcp/1"), several(30, "/ip4/203.0.113.%d/tcp/1")
	for _, tt := range []struct{ own, others, wantOwn, wantOthers int }{
		{30, 0, 16, 0}, {0, 30, 0, 16}, {30, 3, 13, 3}, {30, 30, 8, 8}, {2, 30, 2, 14}, {1, 1, 1, 1},
	} {
		got := fitting(own[:tt.own], others[:tt.others])
		want := slices.Concat(own[:tt.wantOwn], others[:tt.wantOthers])
		if !slices.EqualFunc(got, want, func(a, b multiaddr.Multiaddr) bool { return a.Equal(b) }) {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestClockThatWasAhead: a node that was started with a clock far ahead publishes once
// that is set right.
func TestClockThatWasAhead(t *testing.T) {
	n := new(Node)
	n.init()
	n.lastSequence = time.Now().Add(365 * 24 * time.Hour).UnixMilli()
	rec, err := n.Record()
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Check(time.Now()); err != nil {
		t.Error(err)
	}
	ahead := time.Now().Add(registry.MaxSkew / 2).UnixMilli()
	n.lastSequence = ahead
	if rec, err := n.Record(); err != nil || rec.Sequence != ahead+1 {
		t.Error(rec, err)
	}
}

// A quiet transport listens everywhere, and nothing comes.
type quiet struct{ transport.Transport }

type quietListener struct {
	transport.Listener
	closed chan struct{}
}

func (quiet) CanDial(multiaddr.Multiaddr) bool { return true }

func (quiet) Listen(context.Context, multiaddr.Multiaddr, transport.Admit) (transport.Listener, error) {
	return &quietListener{closed: make(chan struct{})}, nil
}

func (l *quietListener) Multiaddr() multiaddr.Multiaddr {
	return multiaddr.StringCast("/ip4/0.0.0.0/tcp/4001")
}

func (l *quietListener) Close() error {
	close(l.closed)
	return nil
}

// An interrupted directory fails when the node is told to close, and before that has ended.
type interrupted struct {
	published
	asked, closing chan struct{}
}

func (d *interrupted) Publish(context.Context, *registry.Record) error {
	close(d.asked)
	<-d.closing
	return errors.New("what it was sent over is closed")
}

// An unhurried transport's listener closes when the directory has failed.
type unhurried struct {
	quiet
	dir *interrupted
}

type unhurriedListener struct {
	transport.Listener
	dir *interrupted
}

func (u unhurried) Listen(ctx context.Context, a multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	l, err := u.quiet.Listen(ctx, a, admit)
	return &unhurriedListener{l, u.dir}, err
}

func (l *unhurriedListener) Close() error {
	close(l.dir.closing)
	synctest.Wait() // the node has heard of the failure, and tries no more or waits to
	return l.Listener.Close()
}

// TestPublishedNoMore: that a record was not published because the node closes is no warning.
func TestPublishedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &interrupted{asked: make(chan struct{}), closing: make(chan struct{})}
		var log bytes.Buffer
		n := &Node{
			Directory: dir, Transports: []transport.Transport{unhurried{dir: dir}}, ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/0.0.0.0/tcp/4001")},
			Interfaces: func() ([]net.Addr, error) {
				return []net.Addr{&net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}, nil
			},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-dir.asked
		n.Close()
		if strings.Contains(log.String(), "WARN") {
			t.Error(log.String())
		}
	})
}

// A published directory tells the last addresses.
type published struct {
	registry.Directory
	mu    sync.Mutex
	last  []multiaddr.Multiaddr
	times int
}

func (p *published) Publish(_ context.Context, r *registry.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.times = r.Addrs, p.times+1
	return nil
}

func (p *published) Lookup(context.Context, identity.ID) (*registry.Record, error) {
	return nil, registry.ErrNotFound
}

// TestNewInterface: a node that listens everywhere publishes an address that the machine has from now on, and takes one
// back that is gone; and it publishes no more often for it.
func TestNewInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var hosts []string
		have := func(h ...string) {
			mu.Lock()
			defer mu.Unlock()
			hosts = h
		}
		have("192.0.2.1")
		dir := new(published)
		n := &Node{
			Directory: dir, Transports: []transport.Transport{quiet{}}, ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/0.0.0.0/tcp/4001")},
			Interfaces: func() (out []net.Addr, err error) {
				mu.Lock()
				defer mu.Unlock()
				for _, h := range hosts {
					out = append(out, &net.IPNet{IP: net.ParseIP(h), Mask: net.CIDRMask(24, 32)})
				}
				return out, nil
			},
		}
		defer n.Close()
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		tells := func(times int, want ...string) {
			t.Helper()
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			dir.mu.Lock()
			defer dir.mu.Unlock()
			var got []string
			for _, a := range dir.last {
				host, _ := hostOf(a)
				got = append(got, host.String())
			}
			if !slices.Equal(got, want) || dir.times != times {
				t.Errorf("published %d times, last %v; want %d, %v", dir.times, got, times, want)
			}
		}
		tells(1, "192.0.2.1")
		have("192.0.2.1", "198.51.100.1")
		tells(2, "192.0.2.1", "198.51.100.1")
		have("198.51.100.1")
		tells(3, "198.51.100.1")
		tells(3, "198.51.100.1")
	})
}
