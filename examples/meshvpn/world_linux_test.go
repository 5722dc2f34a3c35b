package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"golang.org/x/sys/unix"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

// roleVariable has the test's program be meshvpn, the relay, or one that looks up a name.
const roleVariable = "SPLITMESH_MESHVPN_TEST_ROLE"

func init() { play = playRole } //nolint:gochecknoinits // TestMain is of all platforms, and this is not

func playRole() {
	switch os.Getenv(roleVariable) {
	case "meshvpn":
		os.Exit(newProgram().Main())
	case "lookup":
		addrs, err := net.LookupHost(os.Args[1])
		fmt.Println(addrs, err)
		os.Exit(0)
	case "relay":
		if err := relay(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

const relayAddr = "/ip4/0.0.0.0/tcp/4001/ws"

func relayKey() (*identity.Key, error) {
	return identity.NewKeyFromSeed(bytes.Repeat([]byte{7}, identity.SeedSize))
}

// relay relays until it is told to end.
func relay() error {
	listen, err := transport.Parse(relayAddr)
	if err != nil {
		return err
	}
	key, err := relayKey()
	if err != nil {
		return err
	}
	n := &mesh.Node{Identity: key, ListenAddrs: []multiaddr.Multiaddr{listen}, Relay: new(mesh.RelayConfig)}
	defer n.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := n.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// A record is what a process says, while it goes on.
type record struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *record) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b.Reset()
}

// A machine is a network namespace, maybe with a meshvpn in it.
type machine struct {
	t        *testing.T
	ns, dir  string
	id       identity.ID
	v4, v6   string
	up       *exec.Cmd
	log      record
	settings []string // flags of up
}

// newMachine makes a namespace that ends with the test.
func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it needs root, to make network namespaces")
	}
	m := &machine{t: t, ns: fmt.Sprintf("meshvpn-%d-%s", os.Getpid(), name), dir: t.TempDir()}
	m.run("ip", "netns", "add", m.ns)
	t.Cleanup(func() { m.run("ip", "netns", "del", m.ns) })
	m.ip("link", "set", "lo", "up")
	m.resolvConf("nameserver 127.0.0.1\n") // lest it change that of the machine that the test is on
	return m
}

// run runs a command, where the test runs.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func (m *machine) ip(args ...string) string {
	m.t.Helper()
	return m.run(append([]string{"ip", "-n", m.ns}, args...)...)
}

// command is one that runs in the namespace.
func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", m.ns}, args...)...)
}

// meshvpn runs a command of meshvpn, and returns what it prints and its exit status.
func (m *machine) meshvpn(args ...string) (string, int) {
	m.t.Helper()
	c := m.start(append(args, "--state", m.dir)...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func (m *machine) start(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	c := m.command(append([]string{exe}, args...)...)
	c.Env = append(os.Environ(), roleVariable+"=meshvpn")
	return c
}

// link joins two machines by a cable.
func link(a *machine, addrA string, b *machine, addrB, dev string) {
	a.ip("link", "add", dev, "type", "veth", "peer", "name", dev, "netns", b.ns)
	a.ip("addr", "add", addrA, "dev", dev)
	b.ip("addr", "add", addrB, "dev", dev)
	a.ip("link", "set", dev, "up")
	b.ip("link", "set", dev, "up")
}

// begin has meshvpn be up.
func (m *machine) begin() {
	m.t.Helper()
	m.log.Reset()
	m.up = m.start(append(m.settings, "up", "--state", m.dir, "--node.dht=false", "--log.level=debug")...)
	m.up.Stdout, m.up.Stderr = &m.log, &m.log
	if err := m.up.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { m.end(os.Interrupt) })
	var s status
	m.until("status", func() error {
		out, code := m.meshvpn("status", "--json")
		if code != 0 {
			return errors.New(out)
		}
		return json.Unmarshal([]byte(out), &s)
	})
	m.id, m.v4, m.v6 = s.ID, s.IPv4, s.IPv6
}

// end ends it, and returns the log.
func (m *machine) end(how os.Signal) string {
	if m.up == nil {
		return ""
	}
	_ = m.up.Process.Signal(how) // it may have ended
	err := m.up.Wait()
	if how == os.Interrupt && err != nil {
		m.t.Errorf("up: %v\n%s", err, m.log.String())
	}
	m.up = nil
	if m.t.Failed() {
		m.t.Log(m.ns, "said:\n"+m.log.String())
	}
	return m.log.String()
}

// until tries until it succeeds.
func (m *machine) until(what string, try func() error) {
	m.t.Helper()
	again, patience := time.NewTicker(50*time.Millisecond), time.After(20*time.Second)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-patience:
			m.t.Fatalf("%s: %v", what, err)
		}
	}
}

// knows gives peers names.
func (m *machine) knows(peers map[string]*machine) {
	m.t.Helper()
	var text strings.Builder
	for name, p := range peers {
		fmt.Fprintln(&text, p.id, name)
	}
	path := filepath.Join(m.dir, "hosts")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

// inside runs f on a thread that lives in the machine's namespace. Sockets stay in the one that they were made in.
func (m *machine) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not one for others
		ns, err := os.Open("/run/netns/" + m.ns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (m *machine) dial(network, addr string) (c net.Conn, err error) {
	err = m.inside(func() (err error) { c, err = net.DialTimeout(network, addr, 5*time.Second); return err })
	return c, err
}

func (m *machine) listen(addr string) net.Listener {
	m.t.Helper()
	var l net.Listener
	if err := m.inside(func() (err error) { l, err = net.Listen("tcp", addr); return err }); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	return l
}

// apart are machines a and b, up and known to each other, which reach only a relay:
//
//	a 10.9.1.2 ═ 10.9.1.1 relay 10.9.2.1 ═ 10.9.2.2 b
//
// The relay is at 192.0.2.7, for which a has no route but the default one.
func apart(t *testing.T, rules string, moreA, moreB []string) (a, b *machine) {
	t.Helper()
	a, b = newMachine(t, "a"), newMachine(t, "b")
	r := newMachine(t, "r")
	link(a, "10.9.1.2/24", r, "10.9.1.1/24", "left")
	link(b, "10.9.2.2/24", r, "10.9.2.1/24", "right")
	r.ip("addr", "add", "192.0.2.7/32", "dev", "lo")
	a.ip("route", "add", "default", "via", "10.9.1.1")
	c := r.start()
	c.Env = append(os.Environ(), roleVariable+"=relay")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGINT)
		if err := c.Wait(); err != nil {
			t.Error("relay:", err)
		}
	})
	key, err := relayKey()
	if err != nil {
		t.Fatal(err)
	}
	a.settings = append([]string{"--node.bootstrap=/ip4/192.0.2.7/tcp/4001/ws/p2p/" + key.ID().PeerID()}, moreA...)
	b.settings = append([]string{"--node.bootstrap=/ip4/10.9.2.1/tcp/4001/ws/p2p/" + key.ID().PeerID(), "--rules=" + rules}, moreB...)
	a.begin()
	b.begin()
	a.knows(map[string]*machine{"bob": b})
	b.knows(map[string]*machine{"ann": a})
	a.until("ping", func() error {
		if out, code := a.meshvpn("ping", "bob", "-c", "1"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	return a, b
}
