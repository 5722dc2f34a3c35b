package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/identity"
)

// TestNames: programs reach peers by their names, and the system's file is put back, also after a crash.
func TestNames(t *testing.T) {
	if _, err := os.Stat("/run/systemd/resolve"); err == nil {
		t.Skip("systemd-resolved runs here, and is not for tests to change")
	}
	m, other := newMachine(t, "a"), seeded(t)
	const before = "nameserver 127.0.0.1\n"
	file := m.resolvConf(before)
	hosts := filepath.Join(m.dir, "hosts")
	if err := os.WriteFile(hosts, []byte(other.String()+" bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []os.Signal{os.Interrupt, os.Kill, os.Kill} {
		m.begin()
		want := []string{overlay.V4(other).String(), overlay.V6(other).String()}
		m.until("bob.mesh", func() error {
			if got := m.lookup("bob.mesh"); !strings.Contains(got, want[0]) || !strings.Contains(got, want[1]) {
				return errors.New(got)
			}
			return nil
		})
		if got := m.lookup("eve.mesh"); !strings.Contains(got, "no such host") {
			t.Error(got)
		}
		if got := file(); !strings.Contains(got, "nameserver "+m.v4) {
			t.Error(got)
		}
		m.end(how)
		if got := file(); how == os.Interrupt && got != before {
			t.Error(got)
		}
	}
	if file() == before {
		t.Error("there is nothing to put back: the test shows nothing")
	}
	if out, code := m.meshvpn("down"); code != 0 || file() != before {
		t.Error(code, out, file())
	}
}

// TestRewritten: names are answered for also after another program has written the system's file, and what that wrote is
// put back, at the end and by down.
func TestRewritten(t *testing.T) {
	if _, err := os.Stat("/run/systemd/resolve"); err == nil {
		t.Skip("systemd-resolved runs here, and is not for tests to change")
	}
	m, other := newMachine(t, "a"), seeded(t)
	file := m.resolvConf("nameserver 127.0.0.1\n")
	relay, err := identity.NewKeyFromSeed(bytes.Repeat([]byte{8}, identity.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	hosts := other.String() + " bob\n/ip4/127.0.0.1/tcp/9/ws/p2p/" + relay.ID().PeerID() + "\n"
	if err := os.WriteFile(filepath.Join(m.dir, "hosts"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	m.begin()
	ours := func() error {
		if got := file(); !strings.Contains(got, "nameserver "+m.v4) {
			return errors.New(got)
		}
		return nil
	}
	m.until("the file", ours)
	const after = "nameserver 127.0.0.2\n"
	if err := os.WriteFile(filepath.Join("/etc/netns", m.ns, "resolv.conf"), []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	m.until("the file again", ours)
	if got := m.lookup("bob.mesh"); !strings.Contains(got, overlay.V4(other).String()) {
		t.Error(got)
	}
	if out, _ := m.meshvpn("status"); !strings.Contains(out, "another program has changed") || !strings.Contains(out, "bob") || strings.Contains(out, relay.ID().Short()) {
		t.Error(out)
	}
	if out, code := m.meshvpn("down"); code != 0 || file() != after {
		t.Error(code, out, file())
	}
	m.end(os.Interrupt)

	m.begin()
	m.until("the file", ours)
	if err := m.up.Process.Kill(); err != nil { // nobody waits for it
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, m.up.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if out, code := m.meshvpn("down"); code != 0 || file() != after {
		t.Error(code, out, file())
	}
	m.end(os.Kill)
}

func seeded(t *testing.T) identity.ID {
	t.Helper()
	k, err := relayKey()
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

// lookup is what a program in the namespace learns of a name.
func (m *machine) lookup(name string) string {
	m.t.Helper()
	c := m.start(name)
	c.Env = append(os.Environ(), roleVariable+"=lookup")
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatal(err, string(out))
	}
	return string(out)
}

// resolvConf gives the namespace a file of that name of its own, and returns what reads it.
func (m *machine) resolvConf(text string) func() string {
	m.t.Helper()
	dir := filepath.Join("/etc/netns", m.ns) // where ip-netns(8) looks
	path := filepath.Join(dir, "resolv.conf")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			m.t.Error(err)
		}
		_ = os.Remove("/etc/netns") // unless others use it
	})
	return func() string {
		m.t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		return string(b)
	}
}

// answers has the machine answer for all names that they have the address 192.0.2.80.
func (m *machine) answers(addr string) {
	m.t.Helper()
	s := &dns.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 80)}}
		}
		_ = w.WriteMsg(a) // who is gone does not ask any more
	})}
	if err := m.inside(func() (err error) { s.PacketConn, err = net.ListenPacket("udp", addr); return err }); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	m.t.Cleanup(func() {
		if err := errors.Join(s.PacketConn.Close(), <-ended); err != nil && !errors.Is(err, net.ErrClosed) {
			m.t.Error(err)
		}
	})
}
