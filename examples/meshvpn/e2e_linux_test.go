package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
)

// TestRelayed: two machines that reach only a relay have what rules allow, and nothing else.
func TestRelayed(t *testing.T) {
	a, b := apart(t, "allow * icmp,allow ann tcp 80", nil, nil)
	for _, addr := range []string{b.v4, b.v6} {
		for _, size := range []int{56, 30000} { // the latter in fragments
			if err := ping(a, addr, size); err != nil {
				t.Errorf("ping %s of %d: %v", addr, size, err)
			}
		}
	}
	if err := ping(b, a.v4, 56); err == nil {
		t.Error("what no rule allows is answered")
	}
	for _, addr := range []string{"100.64.9.9:80", "[fd77:45e9:e85d::1]:80"} {
		if c, err := a.dial("tcp", addr); !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("nobody's address: %v, %v", c, err)
		}
	}

	for _, addr := range []string{b.v4, b.v6} {
		l := b.listen(net.JoinHostPort(addr, "80"))
		carries(t, a, l)
	}
	l := b.listen(net.JoinHostPort(b.v4, "81"))
	if c, err := a.dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a port that no rule allows is open")
	}

	out, _ := a.meshvpn("ping", "bob")
	if strings.Count(out, "bob answered in ") != 3 || !strings.Contains(out, "over 1 relay") {
		t.Error(out)
	}
	if out, _ := b.meshvpn("status"); !strings.Contains(out, "ann") || !strings.Contains(out, a.v4) || !strings.Contains(out, "denied") {
		t.Error(out)
	}
	out, _ = a.meshvpn("status", "--json")
	var all any
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err, out)
	}
	lowerCase(t, all)
	for _, want := range []string{`"state": "active"`, `"rtt_seconds": 0.`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if out, code := a.meshvpn("down"); code != 0 || !strings.Contains(out, "is down") {
		t.Error(code, out)
	}
	if out := a.ip("link"); strings.Contains(out, "mesh0") {
		t.Error("the device is left:", out)
	}
	if out, code := a.meshvpn("status"); code != program.NotRunning {
		t.Error(code, out)
	}
}

// lowerCase: the keys of JSON are all spelt alike.
func lowerCase(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for key, v := range v {
			if key != strings.ToLower(key) {
				t.Errorf("the key %s has capitals", key)
			}
			lowerCase(t, v)
		}
	case []any:
		for _, v := range v {
			lowerCase(t, v)
		}
	}
}

// ping sends an echo request and waits for the answer.
func ping(m *machine, addr string, size int) error { return marked(m, addr, size, 0) }

// marked is ping with a type of service, for IPv4.
func marked(m *machine, addr string, size, tos int) error {
	network, ask, answer := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	if strings.Contains(addr, ":") {
		network, ask, answer = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := m.dial(network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := (&icmp.Message{Type: ask, Body: &icmp.Echo{ID: 77 + tos, Seq: size, Data: make([]byte, size)}}).Marshal(nil)
	if err != nil {
		return err
	}
	if tos > 0 {
		if err := ipv4.NewConn(c).SetTOS(tos); err != nil {
			return err
		}
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	for b := make([]byte, 65536); ; {
		n, _, err := c.(net.PacketConn).ReadFrom(b) // which takes the header of IPv4 away
		if err != nil {
			return err
		}
		got, err := icmp.ParseMessage(answer.Protocol(), b[:n])
		if err == nil && got.Type == answer && got.Body.(*icmp.Echo).Seq == size {
			return nil
		}
	}
}

// carries sends some MiB over a TCP connection, each way.
func carries(t *testing.T, from *machine, l net.Listener) {
	t.Helper()
	data := make([]byte, 16<<20)
	rand.Read(data)
	sums := make(chan [32]byte, 1)
	go func() { // ends with the connection
		defer close(sums)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(c, int64(len(data)))); err == nil {
			sums <- [32]byte(h.Sum(nil))
		}
	}()
	c, err := from.dial("tcp", l.Addr().String())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Write(data) }() // ends with the connection
	h := sha256.New()
	if _, err := io.CopyN(h, c, int64(len(data))); err != nil {
		t.Error(err)
		return
	}
	if want := sha256.Sum256(data); [32]byte(h.Sum(nil)) != want || <-sums != want {
		t.Error("what came is not what was sent")
	}
}

// TestExit: what has no other route goes by way of a peer that offers it, except what the mesh itself sends.
func TestExit(t *testing.T) {
	a, b := apart(t, "allow ann tcp 80,allow ann udp 53", []string{"--networks=0.0.0.0/0 via bob"}, []string{"--networks=0.0.0.0/0 to ann"})
	c := newMachine(t, "c")
	link(b, "203.0.113.1/24", c, "203.0.113.2/24", "out")
	c.ip("route", "add", "100.64.0.0/10", "via", "203.0.113.1") // where another would translate addresses
	b.run("ip", "netns", "exec", b.ns, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	carries(t, a, c.listen("203.0.113.2:80"))
	l := c.listen("203.0.113.2:81")
	if conn, err := a.dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("a port that no rule allows is open")
	}
	// Names are asked for by the exit, too, where they were asked for before.
	c.answers("203.0.113.2:53")
	a.end(os.Interrupt)
	a.resolvConf("nameserver 203.0.113.2\n")
	a.begin()
	a.until("a name", func() error {
		if got := a.lookup("example.org"); !strings.Contains(got, "192.0.2.80") {
			return errors.New(got)
		}
		return nil
	})
	// c can't begin: nobody granted it anything at a.
	l = a.listen(net.JoinHostPort(a.v4, "80"))
	if conn, err := c.dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("a network can begin what no rule allows")
	}
}

// TestPrivilege: without a capability it says so, and what to do.
func TestPrivilege(t *testing.T) {
	for missing, want := range map[string]string{"net_admin": "cap_net_admin,cap_net_bind_service+ep", "net_bind_service": "CAP_NET_BIND_SERVICE"} {
		m := newMachine(t, missing[4:7])
		c := m.start("up", "--state", m.dir, "--node.dht=false")
		c.Args = append(c.Args[:4], append([]string{"setpriv", "--bounding-set=-" + missing, "--inh-caps=-" + missing}, c.Args[4:]...)...)
		out, err := c.CombinedOutput()
		if err == nil || c.ProcessState.ExitCode() != program.Forbidden || !strings.Contains(string(out), want) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestCrash: a peer that was killed and starts again is reached again, without a packet of its own.
func TestCrash(t *testing.T) {
	a, b := apart(t, "allow * icmp", nil, nil)
	if err := ping(a, b.v6, 56); err != nil {
		t.Fatal(err)
	}
	b.end(os.Kill)
	b.begin()
	began := time.Now()
	a.until("ping", func() error { return ping(a, b.v6, 56) })
	t.Log("reached again after", time.Since(began))
}

// TestInteractive: what a person waits for does not wait behind a transfer that fills the link.
func TestInteractive(t *testing.T) {
	a, b := apart(t, "allow * icmp,allow ann tcp 80", nil, nil)
	if out, err := exec.Command("tc", "-n", a.ns, "qdisc", "add", "dev", "left", "root", "tbf", "rate", "40mbit", "burst", "64kb", "latency", "200ms").CombinedOutput(); err != nil {
		t.Skipf("no slow link can be had: %v: %s", err, out)
	}
	l := b.listen(net.JoinHostPort(b.v4, "80"))
	var c net.Conn
	a.until("dial", func() (err error) { c, err = a.dial("tcp", l.Addr().String()); return err })
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var ends sync.WaitGroup
	defer ends.Wait()
	defer far.Close()
	ends.Go(func() { _, _ = io.Copy(io.Discard, far) })
	full := make(chan struct{})
	go func() { // ends with the connection
		for i, b := 0, make([]byte, 1<<20); ; i++ {
			if _, err := c.Write(b); err != nil {
				return
			}
			if i == 8 {
				close(full) // the queues hold what TCP lets them
			}
		}
	}()
	<-full
	typical := func(tos int) time.Duration {
		var times []time.Duration
		for range 21 {
			began := time.Now()
			if err := marked(a, b.v4, 56, tos); err != nil {
				t.Fatal(err)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		t.Log(tos, times)
		return times[len(times)/2]
	}
	const low = 8 << 2 // CS1: no better than the transfer
	// Printed, as no test judges times.
	t.Logf("a ping takes %v during a transfer, and %v when it may wait", typical(0), typical(low))
}

// TestWhere: a node that listens everywhere tells nobody of its addresses at the device, which lead through the mesh.
func TestWhere(t *testing.T) {
	_, b := apart(t, "allow * icmp", nil, []string{"--node.listen=/ip4/0.0.0.0/tcp/4001/ws"})
	out, _ := b.meshvpn("invite", "--for", "carl", "--no-wait")
	text := out
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "meshvpn1") {
			text = strings.TrimSpace(line)
		}
	}
	i, err := invite.Parse(text)
	if err != nil {
		t.Fatal(err, out)
	}
	told := fmt.Sprint(i.Addrs)
	if !strings.Contains(told, "/10.9.2.2/") || strings.Contains(told, "/"+b.v4+"/") || strings.Contains(told, "/"+b.v6+"/") {
		t.Error(told)
	}
}
