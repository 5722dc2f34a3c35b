package doctor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
)

// proxied makes the test's program one that examines the target through the proxies of its environment.
const proxied = "SPLITMESH_DOCTOR_TARGET"

func TestMain(m *testing.M) {
	if target := os.Getenv(proxied); target != "" {
		a, err := transport.Parse(target)
		if err != nil {
			panic(err)
		}
		_, id, _, err := transport.SplitPeer(a)
		if err != nil {
			panic(err)
		}
		n := &mesh.Node{Bootstrap: []multiaddr.Multiaddr{a}}
		defer n.Close()
		if err := json.NewEncoder(os.Stdout).Encode((&doctor.Doctor{Node: n}).Examine(context.Background(), id.String()+":x", nil)); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func key(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addrs(t *testing.T, texts ...string) (out []multiaddr.Multiaddr) {
	t.Helper()
	for _, s := range texts {
		a, err := transport.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, n *mesh.Node) *mesh.Node {
	t.Helper()
	t.Cleanup(func() { n.Close() })
	if err := n.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

const local = "/ip4/127.0.0.1/tcp/0/ws"

// server serves "x" by accepting.
func server(t *testing.T, n *mesh.Node, relays int) *mesh.Node {
	t.Helper()
	start(t, n)
	l, err := n.Listen("x")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the node
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	if err := n.WaitReserved(within(t), relays); err != nil {
		t.Fatal(err)
	}
	return n
}

// at is the address of a plain listener, as the peer's.
func at(t *testing.T, l net.Listener, rest string, id identity.ID) multiaddr.Multiaddr {
	t.Helper()
	return addrs(t, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d%s/p2p/%s", l.Addr().(*net.TCPAddr).Port, rest, id))[0]
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A seed is a failure that was planted.
type seed struct {
	want Cause
	// plant makes the doctor and says what is to be examined.
	plant func(t *testing.T) (*doctor.Doctor, string)
}

type Cause = doctor.Cause

// to has a doctor examine service x of a peer from a node that knows one address.
func to(t *testing.T, id identity.ID, boot ...multiaddr.Multiaddr) (*doctor.Doctor, string) {
	return &doctor.Doctor{Node: start(t, &mesh.Node{Bootstrap: boot})}, id.String() + ":x"
}

// signed is a record of a key, made some time ago, for an hour.
func signed(t *testing.T, k *identity.Key, ago time.Duration, revoked bool) *registry.Record {
	t.Helper()
	at := time.Now().Add(-ago)
	r := &registry.Record{Sequence: at.UnixMilli(), Expires: at.Add(time.Hour).UnixMilli(), Revoked: revoked}
	if !revoked {
		r.Addrs = addrs(t, "/ip4/127.0.0.1/tcp/9")
	}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// knowing is a doctor whose directory knows a record.
func knowing(t *testing.T, k *identity.Key, dir registry.Directory, r *registry.Record) (*doctor.Doctor, string) {
	t.Helper()
	if r != nil {
		if err := dir.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return &doctor.Doctor{Node: start(t, &mesh.Node{Directory: dir})}, k.ID().String() + ":x"
}

// recordOf is a record of where a key's node says that it is.
func recordOf(t *testing.T, k *identity.Key, addrs ...multiaddr.Multiaddr) *registry.Record {
	t.Helper()
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Addrs: addrs}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// gone is where a relay was that has ended. The peer, if there is one, had a reservation there and runs on.
func gone(t *testing.T, peer *mesh.Node) []multiaddr.Multiaddr {
	t.Helper()
	relay := start(t, &mesh.Node{ListenAddrs: addrs(t, local), Relay: &mesh.RelayConfig{}})
	if peer != nil {
		peer.Bootstrap = relay.Addrs()
		server(t, peer, 1)
	}
	was := relay.Addrs()
	relay.Close()
	return was
}

// mistyped is an ID with a character changed.
func mistyped(id string) string {
	other := "a"
	if id[20] == 'a' {
		other = "b"
	}
	return id[:20] + other + id[21:]
}

var seeds = map[string]seed{
	"nothing": {"", func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		d, target := to(t, s.ID(), s.Addrs()...)
		d.State = t.TempDir()
		return d, target
	}},
	"expired record": {doctor.ExpiredRecord, func(t *testing.T) (*doctor.Doctor, string) {
		k := key(t)
		behind := func() time.Time { return time.Now().Add(-3 * time.Hour) } // a registry that lives in the past
		dir := &memory.Directory{Now: behind}
		s := httptest.NewServer(httpregistry.NewHandler(dir, httpregistry.Options{}))
		t.Cleanup(s.Close)
		if err := dir.Publish(t.Context(), signed(t, k, 3*time.Hour, false)); err != nil {
			t.Fatal(err)
		}
		return knowing(t, k, &httpregistry.Client{URL: s.URL}, nil)
	}},
	"no record": {doctor.NoRecord, func(t *testing.T) (*doctor.Doctor, string) { return knowing(t, key(t), memory.New(), nil) }},
	"revoked": {doctor.Revoked, func(t *testing.T) (*doctor.Doctor, string) {
		k := key(t)
		return knowing(t, k, memory.New(), signed(t, k, 0, true))
	}},
	"no address": {doctor.NoRoute, func(t *testing.T) (*doctor.Doctor, string) { return to(t, key(t).ID()) }},
	"blocked port": {doctor.Blocked, func(t *testing.T) (*doctor.Doctor, string) {
		l := listen(t)
		l.Close()
		id := key(t).ID()
		return to(t, id, at(t, l, "/ws", id))
	}},
	"wrong clock": {doctor.WrongClock, func(t *testing.T) (*doctor.Doctor, string) {
		web := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(web.Close)
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		d, target := to(t, s.ID(), s.Addrs()...)
		d.Clocks, d.Now = []string{web.URL}, func() time.Time { return time.Now().Add(time.Hour) }
		return d, target
	}},
	"certificate": {doctor.Certificate, func(t *testing.T) (*doctor.Doctor, string) {
		web := httptest.NewUnstartedServer(http.NotFoundHandler())
		web.Config.ErrorLog = log.New(io.Discard, "", 0)
		web.StartTLS()
		t.Cleanup(web.Close)
		id := key(t).ID()
		return to(t, id, at(t, web.Listener, "/tls/ws", id))
	}},
	"authorization": {doctor.Unauthorized, func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local), Authorize: func(context.Context, identity.ID, string) error { return errors.New("not you") }}, 0)
		return to(t, s.ID(), s.Addrs()...)
	}},
	"unknown service": {doctor.UnknownService, func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		d, _ := to(t, s.ID(), s.Addrs()...)
		return d, s.ID().String() + ":y"
	}},
	"relay limit": {doctor.RelayLimit, func(t *testing.T) (*doctor.Doctor, string) {
		relay := start(t, &mesh.Node{ListenAddrs: addrs(t, local), Relay: &mesh.RelayConfig{MaxCircuits: 1}})
		s := server(t, &mesh.Node{Bootstrap: relay.Addrs()}, 1)
		first := start(t, &mesh.Node{Bootstrap: relay.Addrs()})
		c, err := first.Dial(within(t), s.ID().String()+":x")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return to(t, s.ID(), relay.Addrs()...)
	}},
	"not reserved": {doctor.NotReserved, func(t *testing.T) (*doctor.Doctor, string) {
		relay := start(t, &mesh.Node{ListenAddrs: addrs(t, local), Relay: &mesh.RelayConfig{}})
		return to(t, key(t).ID(), relay.Addrs()...)
	}},
	"no disjoint relay": {doctor.NoDisjointRelay, func(t *testing.T) (*doctor.Doctor, string) {
		relay := start(t, &mesh.Node{ListenAddrs: addrs(t, local), Relay: &mesh.RelayConfig{}})
		s := server(t, &mesh.Node{Bootstrap: relay.Addrs()}, 1)
		n := start(t, &mesh.Node{Bootstrap: relay.Addrs(), Split: splitter.Policy{FailFast: true}})
		return &doctor.Doctor{Node: n, RelayedOnly: true}, s.ID().String() + ":x"
	}},
	"DNS": {doctor.DNS, func(t *testing.T) (*doctor.Doctor, string) {
		id := key(t).ID()
		return to(t, id, addrs(t, "/dns/nowhere.invalid/tcp/443/ws/p2p/"+id.String())...)
	}},
	"version": {doctor.Version, func(t *testing.T) (*doctor.Doctor, string) {
		l := listen(t)
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, strings.Repeat("SSH-2.0-OpenSSH_10.0\r\n", 200))
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		id := key(t).ID()
		return to(t, id, at(t, l, "", id))
	}},
	"unknown name": {doctor.UnknownName, func(t *testing.T) (*doctor.Doctor, string) {
		return &doctor.Doctor{Node: start(t, &mesh.Node{Directory: memory.New()})}, "nobody.mesh:x"
	}},
	"bad target": {doctor.BadTarget, func(t *testing.T) (*doctor.Doctor, string) {
		return &doctor.Doctor{Node: start(t, &mesh.Node{})}, "what?"
	}},
	"no service": {doctor.BadTarget, func(t *testing.T) (*doctor.Doctor, string) {
		d, _ := to(t, key(t).ID(), gone(t, nil)...)
		return d, "ann.mesh"
	}},
	"no service of an ID": {doctor.BadTarget, func(t *testing.T) (*doctor.Doctor, string) {
		d, _ := to(t, key(t).ID(), gone(t, nil)...)
		return d, key(t).ID().String()
	}},
	"mistyped ID": {doctor.BadTarget, func(t *testing.T) (*doctor.Doctor, string) {
		return &doctor.Doctor{Node: start(t, &mesh.Node{Directory: memory.New()})}, mistyped(key(t).ID().String()) + ".mesh:x"
	}},
	"relay down": {doctor.RelayBlocked, func(t *testing.T) (*doctor.Doctor, string) {
		s := &mesh.Node{}
		return to(t, s.ID(), gone(t, s)...)
	}},
	"relays down, and the peer's own port blocked": {doctor.RelayBlocked, func(t *testing.T) (*doctor.Doctor, string) {
		k := key(t)
		l := listen(t)
		l.Close()
		circuit, err := transport.Circuit(gone(t, nil)[0], k.ID())
		if err != nil {
			t.Fatal(err)
		}
		return knowing(t, k, memory.New(), recordOf(t, k, at(t, l, "/ws", k.ID()), circuit))
	}},
	"a relay down that is not the peer's": {doctor.Blocked, func(t *testing.T) (*doctor.Doctor, string) {
		k := key(t)
		l := listen(t)
		l.Close()
		d, target := knowing(t, k, memory.New(), recordOf(t, k, at(t, l, "/ws", k.ID())))
		return &doctor.Doctor{Node: start(t, &mesh.Node{Directory: d.Node.Directory, Bootstrap: gone(t, nil)})}, target
	}},
	"relay with another key": {doctor.RelaySilent, func(t *testing.T) (*doctor.Doctor, string) {
		s := &mesh.Node{}
		was := gone(t, s)
		base, _, _, err := transport.SplitPeer(was[0])
		if err != nil {
			t.Fatal(err)
		}
		start(t, &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{base}, Relay: &mesh.RelayConfig{}})
		return to(t, s.ID(), was...)
	}},
	"wrong key": {doctor.Silent, func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		base, _, _, err := transport.SplitPeer(s.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		other := key(t).ID()
		return to(t, other, transport.WithPeer(base, other))
	}},
	"wrong network key": {doctor.Silent, func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local), NetworkKey: &[32]byte{1}}, 0)
		return to(t, s.ID(), s.Addrs()...)
	}},
	"no node there": {doctor.Silent, func(t *testing.T) (*doctor.Doctor, string) {
		web := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(web.Close)
		id := key(t).ID()
		return to(t, id, at(t, web.Listener, "/ws", id))
	}},
	"state directory": {doctor.State, func(t *testing.T) (*doctor.Doctor, string) {
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		d, target := to(t, s.ID(), s.Addrs()...)
		d.State = t.TempDir() + "/none"
		return d, target
	}},
	"full disk": {doctor.FullDisk, func(t *testing.T) (*doctor.Doctor, string) {
		dir := t.TempDir()
		if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=32k", "none", dir).CombinedOutput(); err != nil {
			t.Skipf("needs the right to mount: %v\n%s", err, out)
		}
		t.Cleanup(func() { exec.Command("umount", dir).Run() })
		s := server(t, &mesh.Node{ListenAddrs: addrs(t, local)}, 0)
		d, target := to(t, s.ID(), s.Addrs()...)
		d.State = dir
		return d, target
	}},
}

// TestSeeds: of each failure that was planted the doctor names the cause, with advice.
func TestSeeds(t *testing.T) {
	for name, s := range seeds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, target := s.plant(t)
			var told int
			r := d.Examine(within(t), target, func(doctor.Step) { told++ })
			if r.Cause != s.want || (r.Advice == "") != (s.want == "") || told != len(r.Steps) || told == 0 {
				t.Errorf("cause %q, want %q; advice %q", r.Cause, s.want, r.Advice)
				for _, s := range r.Steps {
					t.Logf("%+v", s)
				}
			}
		})
	}
}

// TestWhichRelay: of a relay that is down, and of one with another key, it is told which and where.
func TestWhichRelay(t *testing.T) {
	for _, name := range []string{"relay down", "relay with another key"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, target := seeds[name].plant(t)
			base, id, _, err := transport.SplitPeer(d.Node.Bootstrap[0])
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"relay " + id.Short() + " at " + base.String()}
			if r := d.Examine(within(t), target, nil); !slices.Equal(r.At, want) {
				t.Errorf("%q, want %q", r.At, want)
			}
		})
	}
}

// TestProxyThatWantsAPassword: in a process of its own, for the environment is read once.
func TestProxyThatWantsAPassword(t *testing.T) {
	l := listen(t)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the conn
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), self)
	cmd.Env = append(os.Environ(), proxied+"=/ip4/192.0.2.1/tcp/80/ws/p2p/"+key(t).ID().String(), "HTTP_PROXY=http://"+l.Addr().String(), "NO_PROXY=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r doctor.Report
	if err := json.Unmarshal(out, &r); err != nil || r.Cause != doctor.ProxyAuth {
		t.Errorf("%v\n%s", err, out)
	}
}
