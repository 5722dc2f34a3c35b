package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// client is an HTTP client that trusts the certificate.
func client(t testing.TB, p *pair) *http.Client {
	tr := &http.Transport{ForceAttemptHTTP2: true}
	if p != nil {
		tr.TLSClientConfig = &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestOnePort: the WebSockets, the registry, the relay's own record and a website are on one port, with TLS. A peer that
// knows nothing but the web server's name gets in and finds others, and a stranger sees a website.
func TestOnePort(t *testing.T) {
	dir := t.TempDir()
	cert := newPair(t, dir, nil)
	root := filepath.Join(dir, "www")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "index.html"), "<h1>Bees</h1>")
	write(t, filepath.Join(dir, "secret.html"), "not for you")
	for _, name := range []string{".git/config", "drafts/honey.html", "drafts/.env", ".well-known/security.txt", "bees/index.html"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), name)
	}
	token := write(t, filepath.Join(dir, "token"), "let-me-in\n")
	p := relayProcess(t, overWSS, "--tls.cert", cert.cert, "--tls.key", cert.key, "--registry.serve=site", "--registry.write-token-file", token, "--site.root", root, "--node.dht=false")
	_, hostport, _, err := transport.HostPort(p.addr())
	if err != nil {
		t.Fatal(err)
	}
	site := "https://" + hostport
	web := client(t, &cert)
	get := func(path string) (status, proto int, body string) {
		res, err := web.Get(site + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.ProtoMajor, string(b)
	}
	if status, proto, body := get("/"); status != 200 || proto != 2 || body != "<h1>Bees</h1>" {
		t.Errorf("%d over HTTP/%d: %s", status, proto, body)
	}
	if status, _, body := get("/..%2fsecret.html"); status == 200 {
		t.Errorf("a file beside the site's: %s", body)
	}
	for path, want := range map[string]int{
		"/drafts/honey.html": 200, "/.well-known/security.txt": 200, "/bees/": 200, "/bees": 200,
		"/drafts/": 404, "/drafts": 404, "/drafts/.env": 404, "/.git/config": 404, "/.well-known/": 404, "/none": 404,
	} {
		if status, _, body := get(path); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
	if status, _, _ := get("/api/v1/ws/x"); status != 404 {
		t.Errorf("%d where WebSockets are", status)
	}
	addrs, err := (&bootstrap.Resolver{Client: web}).Resolve(within(t), site)
	if err != nil || len(addrs) != 1 || addrs[0].String() != p.addr().String() {
		t.Fatalf("begin with the site: %v, %v", addrs, err)
	}
	ways := []transport.Transport{&websocket.Transport{TLSConfig: &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12}}}
	dir2 := &httpregistry.Client{URL: site, HTTPClient: web, Token: "let-me-in"}
	server := peerNode(t, &mesh.Node{Bootstrap: addrs, Transports: ways, Directory: dir2})
	to := echo(t, server, 1)
	until(t, "the server is in the registry", func() bool {
		r, err := dir2.Lookup(within(t), server.ID())
		return err == nil && len(r.Addrs) == 1
	})
	caller := peerNode(t, &mesh.Node{Transports: ways, Directory: &httpregistry.Client{URL: site, HTTPClient: web}}) // which reads alone
	c, err := relayed(caller, 1).Dial(within(t), to)
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(c); err != nil {
		t.Error(err)
	}
	found, err := registry.Providers(within(t), dir2, registry.CapRelay)
	if err != nil || len(found) != 1 || transport.WithPeer(found[0].Addrs[0], found[0].ID).String() != p.addr().String() {
		t.Errorf("relays in the registry: %v, %v", found, err)
	}
	other := &httpregistry.Client{URL: site, HTTPClient: web, Token: "wrong"}
	rec, err := server.Record()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Publish(within(t), rec); err == nil {
		t.Error("published with a wrong token")
	}
	if strings.Contains(string(p.raw), "let-me-in") {
		t.Error("the token is in the log")
	}
}

// TestBehindProxy: a web server that has the certificate, as a CDN does, passes on what comes. The relay announces the
// server's name, and counts what addresses may ask by the header that it writes.
func TestBehindProxy(t *testing.T) {
	dir := t.TempDir()
	cert := newPair(t, dir, nil)
	var behind atomic.Pointer[url.URL]
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind.Load())
		r.Out.Header.Set("X-Client", r.In.Header.Get("X-Test-Address"))
	}})
	pairs, err := tls.LoadX509KeyPair(cert.cert, cert.key)
	if err != nil {
		t.Fatal(err)
	}
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pairs}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	defer front.Close()
	name := fmt.Sprintf("localhost:%d", front.Listener.Addr().(*net.TCPAddr).Port)
	announced := strings.Replace("/dns/"+name+"/wss", ":", "/tcp/", 1)
	p := relayProcess(t, overWS, "--site.announce="+announced, "--registry.serve=site", "--node.dht=false",
		"--registry.client-header=X-Client", "--registry.requests-per-second=1")
	behind.Store(&url.URL{Scheme: "http", Host: p.waitLog("listening", "what", "site")["addr"].(string)})
	if got := p.addr().String(); !strings.HasPrefix(got, announced+"/p2p/") {
		t.Errorf("it announces %s", got)
	}
	web := client(t, &cert)
	boot, err := (&bootstrap.Resolver{Client: web}).Resolve(within(t), "https://"+name)
	if err != nil {
		t.Fatal(err)
	}
	ways := []transport.Transport{&websocket.Transport{TLSConfig: &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12}}}
	server := peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways})
	c, err := relayed(peerNode(t, &mesh.Node{Bootstrap: boot, Transports: ways}), 1).Dial(within(t), echo(t, server, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(c); err != nil {
		t.Error(err)
	}
	asked := func(from string) int {
		req, err := http.NewRequestWithContext(within(t), http.MethodGet, "https://"+name+"/v1/records", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Test-Address", from)
		res, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	until(t, "one that asks too often is told so", func() bool { return asked("192.0.2.1") == http.StatusTooManyRequests })
	if status := asked("192.0.2.2"); status != http.StatusOK {
		t.Errorf("another is told %d", status)
	}
	c.Close()
	server.Close() // or the proxy would wait for them
}
