package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// freePorts are ports that nobody listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// TestACME: an authority of our own, Let's Encrypt's test server, proves the name over the relay's port and gives the
// certificate; the relay announces the name, and a peer that trusts the authority gets in.
func TestACME(t *testing.T) {
	binary, err := exec.LookPath("pebble")
	if err != nil {
		t.Skip("there is no pebble to run: go install github.com/letsencrypt/pebble/v2/cmd/pebble@latest")
	}
	dir := t.TempDir()
	ports := freePorts(t, 3)
	ca, manage, https := ports[0], ports[1], ports[2]
	own := newPair(t, dir, nil)
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": at(ca), "managementListenAddress": at(manage), "certificate": own.cert, "privateKey": own.key,
		"httpPort": 1, "tlsPort": https, "profiles": map[string]any{"default": map[string]any{"description": "all", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), binary, "-config", write(t, filepath.Join(dir, "pebble.json"), string(conf)))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	var said strings.Builder
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	web := client(t, &own)
	var root []byte
	until(t, "the authority is up", func() bool {
		res, err := web.Get("https://" + at(manage) + "/roots/0")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		root, err = io.ReadAll(res.Body)
		return err == nil && res.StatusCode == http.StatusOK
	})
	p := relayProcess(t, "--node.listen=/ip4/127.0.0.1/tcp/"+strconv.Itoa(https)+"/wss", "--node.dht=false", "--registry.serve=site",
		"--tls.acme-domains=localhost", "--tls.acme-ca=https://"+at(ca)+"/dir", "--tls.acme-roots="+own.cert, "--tls.acme-email=me@relay.example")
	p.waitLog("certificate obtained")
	until(t, "it is ready", func() bool { status, _ := get(t, p.monitor()+"/readyz"); return status == http.StatusOK })
	if _, text := get(t, p.monitor()+"/metrics"); strings.Contains(text, certificateExpiry+" 0\n") || !strings.Contains(text, certificateExpiry+" ") {
		t.Error("when the certificate ends is not told")
	}
	if want := "/dns/localhost/tcp/" + strconv.Itoa(https) + "/wss/"; !strings.HasPrefix(p.addr().String(), want) {
		t.Errorf("it announces %v, want %s…", p.addr(), want)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(root) {
		t.Fatalf("no root: %s", root)
	}
	ways := []transport.Transport{&websocket.Transport{TLSConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways})
	c, err := relayed(peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways}), 1).Dial(within(t), echo(t, server, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(greet(c), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(p.state, "acme", "certificates")); err != nil {
		t.Error("the certificate is not kept:", err)
	}
}

// certificateExpiry is the metric's name.
const certificateExpiry = "meshrelay_certificate_expiry_timestamp_seconds"

// TestNoCertificate: with an authority that does not answer the relay says so, is not ready, and ends when it is told to.
func TestNoCertificate(t *testing.T) {
	ca := freePorts(t, 1)[0]
	p := relayProcess(t, overWSS, "--node.dht=false", "--tls.acme-domains=localhost", "--tls.acme-ca=https://127.0.0.1:"+strconv.Itoa(ca)+"/dir")
	if said := p.waitLog("no certificate; it is tried again")["err"]; !strings.Contains(said.(string), "connection refused") {
		t.Error(said)
	}
	if status, body := get(t, p.monitor()+"/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "no certificate that is valid") {
		t.Errorf("%d %s", status, body)
	}
	if _, text := get(t, p.monitor()+"/metrics"); !strings.Contains(text, certificateExpiry+" 0\n") {
		t.Error("a certificate is told of")
	}
	if status, out := ask(t, "status", "--state", p.state); status != 0 {
		t.Error(out)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
}

// TestChallenged: the authority is answered where the site is, and no other port is opened for it.
func TestChallenged(t *testing.T) {
	for _, tt := range []struct {
		listen []string
		host   string
		port   int
	}{
		{[]string{"/ip4/0.0.0.0/tcp/443/wss"}, "", 443},
		{[]string{"/ip4/0.0.0.0/tcp/4001/ws", "/ip6/::/tcp/8443/wss"}, "", 8443},
		{[]string{"/ip4/192.0.2.1/tcp/8443/tls/ws", "/ip4/192.0.2.2/tcp/443/wss"}, "192.0.2.1", 8443},
		{[]string{"/dns/localhost/tcp/443/wss"}, "localhost", 443},
		{[]string{"/ip4/0.0.0.0/tcp/4001"}, "", 0},
	} {
		var listen []multiaddr.Multiaddr
		for _, a := range tt.listen {
			listen = append(listen, multiaddr.StringCast(a))
		}
		if host, port := challenged(listen); host != tt.host || port != tt.port {
			t.Errorf("%v: %q %d", tt.listen, host, port)
		}
	}
}
