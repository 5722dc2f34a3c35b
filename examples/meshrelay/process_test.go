package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

const (
	overWS  = "--node.listen=/ip4/127.0.0.1/tcp/0/ws"
	overWSS = "--node.listen=/ip4/127.0.0.1/tcp/0/wss"
)

// relayed dials over relays, k at least.
func relayed(n *mesh.Node, k int) *mesh.Dialer {
	return &mesh.Dialer{Node: n, RelayedOnly: true, Paths: 2, Split: splitter.Policy{MinPaths: k}}
}

// TestRelay: it carries circuits, and its owner sees them and puts a peer out.
func TestRelay(t *testing.T) {
	p := relayProcess(t, overWS, "--drain.timeout=1s") // there is no other relay to move to
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot})
	client := peerNode(t, &mesh.Node{Bootstrap: boot})
	c, err := relayed(client, 1).Dial(within(t), echo(t, server, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(c); err != nil {
		t.Fatal(err)
	}
	owner := func(v any, args ...string) {
		t.Helper()
		status, out := ask(t, append(args, "--json", "--state", p.state)...)
		if status != 0 {
			t.Fatalf("%v: status %d: %s", args, status, out)
		}
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	var st status
	owner(&st, "status")
	if st.State != "serving" || st.Circuits != 1 || st.Reservations != 1 || st.Sessions != 2 || st.Bytes == 0 || len(st.Addrs) != 1 {
		t.Errorf("%+v", st)
	}
	var circuits []circuit
	owner(&circuits, "circuits")
	if len(circuits) != 1 || circuits[0].Source != client.ID() || circuits[0].Target != server.ID() {
		t.Errorf("%+v", circuits)
	}
	var peers []peer
	owner(&peers, "peers")
	if len(peers) != 2 {
		t.Errorf("%+v", peers)
	}
	for _, q := range peers {
		if q.Reserved != (q.ID == server.ID()) || q.Dialled+q.Reached != 1 || !strings.HasPrefix(q.Remote, "127.0.0.1:") {
			t.Errorf("%+v", q)
		}
	}
	for _, table := range [][]string{{"status", "carried"}, {"peers", "RESERVED"}, {"circuits", client.ID().String()}} {
		if status, out := ask(t, table[0], "--state", p.state); status != 0 || !strings.Contains(out, table[1]) {
			t.Errorf("%s: status %d: %s", table[0], status, out)
		}
	}
	if status, out := ask(t, "kick", newID(t, 9).String(), "--state", p.state); status != program.Failed || !strings.Contains(out, "there is no session") {
		t.Errorf("nobody is put out: status %d: %s", status, out)
	}
	if status, out := ask(t, "kick", "ann", "--state", p.state); status != program.Usage {
		t.Errorf("no ID: status %d: %s", status, out)
	}
	if status, out := ask(t, "doctor", newID(t, 9).String()+":x", "--state", p.state); status != program.Failed || !strings.Contains(out, "Cause: ") {
		t.Errorf("the one that runs is not asked: status %d: %s", status, out)
	}
	var k kicked
	owner(&k, "kick", client.ID().String())
	if k.Sessions != 1 {
		t.Errorf("%+v", k)
	}
	old := circuits[0].Since
	until(t, "the circuit is gone, and the peer back with another", func() bool {
		owner(&circuits, "circuits")
		return len(circuits) == 1 && circuits[0].Since.After(old)
	})
	if status, out := ask(t, "drain", "--state", p.state); status != 0 || !strings.Contains(out, "circuits left: 1") {
		t.Errorf("drain: status %d: %s", status, out)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
	if status, out := ask(t, "status", "--state", p.state); status != program.NotRunning {
		t.Errorf("status %d: %s", status, out)
	}
}

// TestTwice: a second one is refused: by its state directory, by its port, by the monitor's; and so is what can't work.
func TestTwice(t *testing.T) {
	p := relayProcess(t, overWS)
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	base, _, _, err := transport.SplitPeer(p.addr())
	if err != nil {
		t.Fatal(err)
	}
	monitor := strings.TrimPrefix(p.monitor(), "http://")
	garbage := write(t, filepath.Join(dir, "garbage.pem"), "no certificate")
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"state":       {[]string{"--state", p.state, overWS}, program.Busy, "another meshrelay uses " + p.state},
		"port":        {[]string{"--state", other, "--node.listen", base.String(), "--monitor.listen="}, program.Busy, "Another program listens there"},
		"monitor":     {[]string{"--state", other, overWS, "--monitor.listen", monitor}, program.Busy, "monitor: "},
		"registry":    {[]string{"--state", other, overWS, "--monitor.listen=", "--registry.serve", monitor}, program.Busy, "registry: "},
		"certificate": {[]string{"--state", other, overWSS, "--monitor.listen=", "--tls.cert", garbage, "--tls.key", garbage}, program.Settings, "tls.cert: "},
		"list":        {[]string{"--state", other, overWS, "--monitor.listen=", "--relay.allow-file", garbage}, program.Settings, garbage + ":1: "},
		"site":        {[]string{"--state", other, overWS, "--monitor.listen=", "--site.root", garbage}, program.Settings, "site.root: "},
		"token":       {[]string{"--state", other, overWS, "--monitor.listen=", "--registry.serve=site", "--registry.read-token-file", filepath.Join(dir, "none")}, program.Settings, "registry.read-token-file: "},
		"idle token":  {[]string{"--state", other, overWS, "--monitor.listen=", "--registry.read-token-file", filepath.Join(dir, "none")}, program.Settings, "registry.read-token-file: "},
		"nothing":     {[]string{"--state", other}, program.Settings, "node.listen: a relay has to be reached"},
	} {
		if status, out := ask(t, append([]string{"run"}, tt.args...)...); status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%s: status %d, want %d: %s", name, status, tt.status, out)
		}
	}
}

// TestEndWhileStarting: to be told to end before it is ready is no failure.
func TestEndWhileStarting(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // whoever dials it waits
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	state := filepath.Join(t.TempDir(), "s")
	p := launch(t, programCommand(t, "run", overWS, "--state", state, "--log.format=json", "--monitor.listen=127.0.0.1:0",
		"--node.bootstrap=https://"+silent.Addr().String()), state)
	if status, body := get(t, p.monitor()+"/readyz"); status != http.StatusServiceUnavailable || body != "starting\n" {
		t.Errorf("ready: %d %s", status, body)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
	p.waitLog("ended before it was ready")
}

// TestReload: SIGHUP changes what it may, says what it may not, and drops no circuit; a wrong file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert := newPair(t, dir, nil)
	file := filepath.Join(dir, "meshrelay.yaml")
	deny := write(t, filepath.Join(dir, "deny"), "")
	settings := func(more string) {
		write(t, file, fmt.Sprintf("node: {listen: [/ip4/127.0.0.1/tcp/0/wss]}\ntls: {cert: %q, key: %q}\n%s", cert.cert, cert.key, more))
	}
	settings("relay: {max-circuits: 100, deny-file: " + deny + "}\n")
	p := relayProcess(t, "--config", file)
	first := cert.serial
	ways := func() []transport.Transport {
		return []transport.Transport{&websocket.Transport{TLSConfig: &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12}}}
	}
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways()})
	to := echo(t, server, 1)
	caller := peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways()})
	c, err := relayed(caller, 1).Dial(within(t), to)
	if err != nil {
		t.Fatal(err)
	}

	settings("relay: {max-circuits: -1}\n")
	p.signal(syscall.SIGHUP)
	if said := p.waitLog("nothing reloaded: the settings in use stay")["err"]; !strings.Contains(said.(string), file+":3:23: relay.max-circuits") {
		t.Error(said)
	}
	cert = newPair(t, dir, cert.roots)
	settings("relay: {max-circuits: 1, buffer: 1MiB, deny-file: " + deny + "}\nlog: {level: debug}\nregistry: {serve: site}\n")
	p.signal(syscall.SIGHUP)
	p.waitLog("settings read again")
	p.waitLog("this setting has changed, and counts from the next start on", "setting", "registry.serve")
	p.waitLog("this setting has changed, and counts from the next start on", "setting", "relay.buffer")
	if err := greet(c); err != nil {
		t.Errorf("the circuit did not outlive it: %v", err)
	}
	_, hostport, _, err := transport.HostPort(p.addr())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", hostport, &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(first) == 0 || got.Cmp(cert.serial) != 0 {
		t.Error("it has the old certificate still")
	}
	conn.Close()
	another := peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways()})
	_, err = relayed(another, 1).Dial(within(t), to)
	if e, ok := errors.AsType[*mesh.LimitError](err); !ok || e.Limit != "MaxCircuits" || e.Value != 1 {
		t.Errorf("over the new limit: %v", err)
	}
	write(t, deny, server.ID().String()+" # who was in\n")
	p.signal(syscall.SIGHUP)
	until(t, "who is denied is put out", func() bool {
		var st status
		code, out := ask(t, "status", "--json", "--state", p.state)
		if code != 0 || json.Unmarshal([]byte(out), &st) != nil {
			t.Fatalf("status %d: %s", code, out)
		}
		return st.Reservations == 0 && st.Circuits == 0 && st.Refused["Allow"] > 0
	})
	p.signal(syscall.SIGINT)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
}
