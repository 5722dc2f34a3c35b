package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
)

// TestDoctorOfPorts: what proxy, forward and the network device do with a peer's port is what the doctor says of it,
// with a network device here and without, and of a peer that serves it, is up with or without a rule for it, or neither.
func TestDoctorOfPorts(t *testing.T) {
	a, b := newMachine(t, "a"), newMachine(t, "b")
	link(a, "192.0.2.1/24", b, "192.0.2.2/24", "cable")
	listen := []string{"--node.listen", "/ip4/192.0.2.1/tcp/4001/ws"}
	a.settings = append(listen, "--rules", "allow bob tcp 80 82 90 91")
	a.begin()
	hosts := fmt.Sprintf("%s ann\n/ip4/192.0.2.1/tcp/4001/ws/p2p/%s\n", a.id, a.id)
	if err := os.WriteFile(filepath.Join(b.dir, "hosts"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	b.begin()
	a.knows(map[string]*machine{"bob": b})
	for _, port := range []string{"80", "81"} {
		a.listen(net.JoinHostPort(a.v6, port))
	}
	stranger, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	part := func(m *machine, args ...string) (end func()) {
		t.Helper()
		cmd := m.start(append(args, "--state", m.dir, "--node.dht=false")...)
		r := begin(t, cmd)
		r.line(t)
		return func() { r.end(t) }
	}
	served, others := part(a, "serve", "1", "--as", "90", "--allow", "bob"), part(a, "serve", "1", "--as", "91", "--allow", stranger.ID().String())

	b.until("rules", func() error { // know bob
		if out, code := b.meshvpn("ping", "ann", "-c", "1"); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	says := func(target string, status int, want ...string) {
		t.Helper()
		out, code := b.meshvpn("doctor", target, "--node.dht=false")
		for _, w := range want {
			if code != status || !strings.Contains(out, w) {
				t.Errorf("doctor %s: status %d, want %d and %q:\n%s", target, code, status, w, out)
				return
			}
		}
	}
	const noAnswer, closed, denied = "Cause: no answer from the port\n", "Cause: closed port\n", "Cause: authorization\n"

	// With a network device.
	for _, target := range []string{"ann.mesh:80", "ann:tcp/80", a.id.String() + ".mesh:80"} {
		says(target, 0, "within reach by the network device.\nNot by proxy and forward: unknown service.")
	}
	says("ann:81", program.Failed, noAnswer, "--rules 'allow NAME tcp 81'")
	says("ann:82", program.Failed, closed)
	says("ann:90", 0, "within reach by proxy and forward.\nNot by the network device: closed port.")
	says("ann:91", program.Failed, denied)
	says("ann", program.Failed, "Cause: bad target\n")
	if out, code := b.meshvpn("ping", mistyped(a.id)); code == 0 || !strings.Contains(out, "checksum") {
		t.Error("ping of an ID that is mistyped:", code, out)
	}

	// Without one: by itself, and by a meshvpn that runs.
	b.end(os.Interrupt)
	says("ann.mesh:80", 0, "The service is within reach.")
	says("ann:81", program.Failed, noAnswer)
	proxying := part(b, "proxy", "--http", "")
	says("ann.mesh:80", 0, "The service is within reach.")
	says("ann:82", program.Failed, closed)
	says("ann:90", 0, "The service is within reach.")
	says("ann:91", program.Failed, denied)

	// A peer that lets nobody in, and one that is not up.
	served()
	others()
	a.end(os.Interrupt)
	a.settings = append(listen, "--rules", "deny bob")
	a.begin()
	b.until("denied", func() error {
		out, _ := b.meshvpn("doctor", "ann:80")
		if !strings.Contains(out, denied) || !strings.Contains(out, "no rule there allows it anything") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	a.end(os.Interrupt)
	part(a, append(listen, "serve", "1", "--as", "90", "--allow", "bob")...)
	b.until("not up", func() error {
		out, _ := b.meshvpn("doctor", "ann:80")
		if !strings.Contains(out, "Cause: unknown service\n") || !strings.Contains(out, "meshvpn serve 80 --allow NAME") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	proxying()
}
