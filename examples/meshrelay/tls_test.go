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
