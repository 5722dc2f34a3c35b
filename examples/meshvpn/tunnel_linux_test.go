package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// relayHost is beyond a's default route.
const relayHost = "192.0.2.7"

// leaks is whether what a program of the machine sends to the relay goes out as if there were no exit.
func (m *machine) leaks() bool {
	out, err := m.command("ip", "route", "get", relayHost).CombinedOutput()
	return err == nil && strings.Contains(string(out), " dev left")
}

// TestKilled: what went by an exit goes nowhere when meshvpn is killed, until it is up again, or until down gives it up.
func TestKilled(t *testing.T) {
	a, b := apart(t, "allow ann icmp", []string{"--networks=0.0.0.0/0 via bob"}, []string{"--networks=0.0.0.0/0 to ann"})
	if a.leaks() {
		t.Error("there is no exit: the test shows nothing")
	}
	for range 2 {
		a.end(os.Kill)
		if c, err := a.dial("tcp", relayHost+":4001"); err == nil {
			c.Close()
			t.Error("it goes out unprotected")
		}
		if out, code := a.meshvpn("up", "--node.dht=false", "--networks=0.0.0.0/0 via bob", "--node.network-key-file=/dev/null"); code == 0 || !strings.Contains(out, "meshvpn down") {
			t.Error(out)
		}
		if a.leaks() {
			t.Error("it goes out unprotected when meshvpn does not start")
		}
		a.begin()
		a.until("ping", func() error { return ping(a, b.v4, 56) })
		if a.leaks() {
			t.Error("it goes out unprotected when meshvpn is up again")
		}
	}
	a.end(os.Kill)
	if out, code := a.meshvpn("down"); code != 0 {
		t.Error(code, out)
	}
	if !a.leaks() {
		t.Error("down has not given up what was routed")
	}
	if left := a.ip("route", "show", "table", "all", "proto", "109") + a.ip("-6", "route", "show", "table", "all", "proto", "109"); left != "" {
		t.Error(left)
	}
}

// TestItself: an address within the virtual network is no way for the mesh, whoever says that a peer is there.
func TestItself(t *testing.T) {
	listen := "--node.listen=/ip4/0.0.0.0/tcp/4001/ws"
	a, b := apart(t, "allow *", []string{listen}, []string{listen})
	a.end(os.Interrupt)
	path := filepath.Join(a.dir, "hosts")
	if err := os.WriteFile(path, fmt.Appendf(nil, "/ip4/%s/tcp/4001/ws/p2p/%s bob\n", b.v4, b.id), 0o600); err != nil {
		t.Fatal(err)
	}
	a.begin()
	a.until("ping", func() error { return ping(a, b.v4, 56) })
	if out, code := a.meshvpn("ping", "bob"); code != 0 || !strings.Contains(out, "over 1 relay") {
		t.Error(out)
	}
	if out, _ := a.meshvpn("status"); !strings.Contains(out, "over 1 relay") {
		t.Error(out)
	}
	c, err := a.dial("tcp", net.JoinHostPort(b.v4, "4001")) // other programs may
	if err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if log := a.end(os.Interrupt); !strings.Contains(log, "can't carry itself") {
		t.Error("it has not tried: the test shows nothing")
	}
}

// TestPingWaits: while no way leads to the peer, ping says that it waits, and what it was when it is interrupted.
func TestPingWaits(t *testing.T) {
	a, r := newMachine(t, "a"), newMachine(t, "r")
	link(a, "10.9.1.2/24", r, "10.9.1.1/24", "left")
	r.ip("route", "add", "blackhole", "192.0.2.9")
	a.ip("route", "add", "default", "via", "10.9.1.1")
	a.settings = []string{"--node.bootstrap=/ip4/192.0.2.9/tcp/4001/ws/p2p/" + seeded(t).PeerID()}
	a.begin()
	c := a.start("ping", seeded(t).String(), "--state", a.dir)
	var said record
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	a.until("a word", func() error {
		if !strings.Contains(said.String(), "does not answer yet") {
			return errors.New(said.String())
		}
		return nil
	})
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(said.String(), "meshvpn: interrupted: ") {
		t.Error(err, said.String())
	}
}

// TestReload: SIGHUP has rules and networks count as they are now, also for what has begun; a wrong file changes nothing.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meshvpn.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules: [allow ann tcp 80 81, allow ann icmp]\n")
	a, b := apart(t, "allow ann icmp", nil, nil)
	b.end(os.Interrupt)
	b.settings = append(b.settings[:1], "--config="+file)
	b.begin()
	reload := func(text, said string) {
		t.Helper()
		write(text)
		before := strings.Count(b.log.String(), said)
		if err := b.up.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		b.until(said, func() error {
			if strings.Count(b.log.String(), said) == before {
				return errors.New(b.log.String())
			}
			return nil
		})
	}
	far := b.listen(net.JoinHostPort(b.v4, "80"))
	var c net.Conn
	a.until("dial", func() (err error) { c, err = a.dial("tcp", far.Addr().String()); return err })
	defer c.Close()
	there, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	hear := func(want bool) {
		t.Helper()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		patience := time.Second
		if want {
			patience = 20 * time.Second
		}
		if err := there.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(there, make([]byte, 1)); err == nil != want {
			t.Errorf("%v: %v", want, err)
		}
	}
	hear(true)
	reload("rules: [allow ann tcp 80, permit ann]\n", "nothing reloaded")
	hear(true)
	if err := ping(a, b.v4, 56); err != nil {
		t.Error("a wrong file counts:", err)
	}
	reload("rules: [allow ann tcp 81]\nnetworks: [198.51.100.0/24 via ann]\ndns: off\n", "setting=dns")
	if out := b.ip("route", "get", "198.51.100.1"); !strings.Contains(out, "mesh0") {
		t.Error(out)
	}
	if ping(a, b.v4, 56) == nil {
		t.Error("what is not allowed any more is answered")
	}
	if _, err := there.Write([]byte("our end goes on")); err != nil {
		t.Fatal(err)
	}
	hear(false)
	reload("rules: [allow ann tcp 80]\n", "settings read again")
	hear(true)
	if out := b.ip("route", "show", "proto", "109"); strings.Contains(out, "198.51.100") {
		t.Error(out)
	}
	if log := b.end(os.Interrupt); !strings.Contains(log, "permit") {
		t.Errorf("it does not say what is wrong:\n%s", log)
	}
}

// TestSecond: another one in the same place does not start, and takes nothing from the one that runs.
func TestSecond(t *testing.T) {
	a, b := apart(t, "allow ann icmp", []string{"--networks=0.0.0.0/0 via bob"}, nil)
	const before = "nameserver 127.0.0.1\n"
	file := a.resolvConf(before)
	a.end(os.Interrupt)
	a.begin() // with the file
	other := &machine{t: t, ns: a.ns, dir: t.TempDir()}
	for _, args := range [][]string{{"up", "--node.dht=false", "--tun.name=mesh1"}, {"up", "--node.dht=false"}, {"down"}} {
		out, code := other.meshvpn(args...)
		if want := map[string]int{"up": program.Busy, "down": program.NotRunning}[args[0]]; code != want {
			t.Errorf("%v: %d: %s", args, code, out)
		}
		if a.leaks() {
			t.Errorf("after %v it goes out unprotected", args)
		}
		if !strings.Contains(file(), "nameserver "+a.v4) {
			t.Errorf("after %v:\n%s", args, file())
		}
	}
	a.until("ping", func() error { return ping(a, b.v4, 56) })

	// Killed, and its state lost: the next one puts back what was.
	a.end(os.Kill)
	a.dir = t.TempDir()
	a.begin()
	if log := a.end(os.Interrupt); strings.Count(log, "a key was made") != 1 {
		t.Error("it does not say that it is another now:", log)
	}
	if file() != before {
		t.Error(file())
	}
}

// TestWithout: what is missing is told, and what to do.
func TestWithout(t *testing.T) {
	m := newMachine(t, "a")
	args := []string{"up", "--node.dht=false"}
	without := func(what, script string, status int, want ...string) {
		t.Helper()
		c := m.start(append(args, "--state", m.dir)...)
		c.Args = append(c.Args[:4], append([]string{"unshare", "--mount", "sh", "-c", script + ` && exec "$@"`, "sh"}, c.Args[4:]...)...)
		out, err := c.CombinedOutput()
		if err == nil || c.ProcessState.ExitCode() != status {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
		for _, want := range want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", what, want, out)
			}
		}
	}
	without("no /dev/net/tun", "mount -t tmpfs none /dev/net", program.Failed, "/dev/net/tun", "modprobe tun")
	without("a closed /dev/net/tun", "mount -t tmpfs none /dev/net && mknod /dev/net/tun c 10 200 && chmod 0 /dev/net/tun && "+
		`exec setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search "$@"`, program.Forbidden, "/dev/net/tun", "may not open")
	full := t.TempDir()
	m.dir = filepath.Join(full, "state")
	without("a full disk", "mount -t tmpfs -o size=4k none "+full+" && mkdir "+m.dir+" && head -c 4096 /dev/zero >"+full+"/x", program.NoSpace, "no space left")
	m.dir = "/proc/meshvpn"
	without("no place for the state", "true", program.Failed, "state directory")
}
