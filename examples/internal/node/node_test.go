package node_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func addrs(t *testing.T, texts ...string) (out []config.Addr) {
	t.Helper()
	for _, s := range texts {
		var a config.Addr
		if err := a.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// open makes a node with a state of its own.
func open(t *testing.T, dir string, s node.Settings) *node.Node {
	t.Helper()
	n, err := node.Open(within(t), &s, &program.State{Dir: dir}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// TestFindEachOther: of three nodes of which two know the third, one reaches the other
// by its petname alone.
func TestFindEachOther(t *testing.T) {
	local := "/ip4/127.0.0.1/tcp/0/ws"
	first := open(t, t.TempDir(), node.Settings{DHT: true, Listen: addrs(t, local)})
	boot := []string{first.Addrs()[0].String()}
	server := open(t, t.TempDir(), node.Settings{DHT: true, Listen: addrs(t, local), Bootstrap: boot})
	l, err := server.Listen("echo")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(server.ID().String()+" kitchen\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := open(t, dir, node.Settings{DHT: true, Bootstrap: boot})
	again := time.NewTicker(100 * time.Millisecond) // until the record is there
	defer again.Stop()
	for ctx := within(t); ; <-again.C {
		c, err := client.Dial(ctx, "kitchen.mesh:echo")
		if err == nil {
			c.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyStays: a node is the same after a restart.
func TestKeyStays(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, node.Settings{})
	id := first.ID()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir, node.Settings{}); again.ID() != id {
		t.Error("another key")
	}
	for _, name := range []string{"key", "passphrase"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info, err)
		}
	}
}

// TestLost: what is gone from the state directory is told; a key is never made in place of one that can't be opened.
func TestLost(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	start := func() (*node.Node, error) {
		said.Reset()
		return node.Open(within(t), &node.Settings{}, &program.State{Dir: dir}, slog.New(slog.NewTextHandler(&said, nil)), nil)
	}
	use := func(wantMade bool) *node.Node {
		t.Helper()
		n, err := start()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if made := strings.Contains(said.String(), "a key was made"); made != wantMade {
			t.Errorf("it said: %s", said.String())
		}
		return n
	}
	first := use(true)
	if again := use(false); again.ID() != first.ID() {
		t.Error("another key")
	}
	passphrase, key := filepath.Join(dir, "passphrase"), filepath.Join(dir, "key")
	if err := os.Rename(passphrase, passphrase+".saved"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first changes nothing
		if _, err := start(); program.Status(err) != program.Settings || !strings.Contains(err.Error(), "the passphrase that opens it is gone") {
			t.Error("without its passphrase:", err)
		}
	}
	if err := os.Rename(passphrase+".saved", passphrase); err != nil {
		t.Fatal(err)
	}
	if again := use(false); again.ID() != first.ID() {
		t.Error("another key")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if again := use(true); again.ID() == first.ID() {
		t.Error("the same key")
	}
}

// A silent listener closes what it accepts until it is to answer.
type silent struct {
	net.Listener
	answers atomic.Bool
}

func (l *silent) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.answers.Load() {
			return c, err
		}
		c.Close()
	}
}

// unanswered is a web server that has a node's record, and answers nobody before answer is called. This process trusts it.
func unanswered(t *testing.T, record func() (*registry.Record, error)) (web *httptest.Server, answer func()) {
	t.Helper()
	web = httptest.NewUnstartedServer(bootstrap.Handler(func() *registry.Record {
		r, err := record()
		if err != nil {
			t.Error(err)
		}
		return r
	}))
	l := &silent{Listener: web.Listener}
	web.Listener = l
	web.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	was := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	t.Cleanup(func() {
		http.DefaultTransport = was
		web.Close()
	})
	return web, func() { l.answers.Store(true) }
}

// TestLateBootstrap: a node starts while nobody of bootstrap answers, as on a machine without a network, and asks again.
// With what it is told then it dials, and is reserved at a relay.
func TestLateBootstrap(t *testing.T) {
	local := addrs(t, "/ip4/127.0.0.1/tcp/0")
	relay, err := node.Open(within(t), &node.Settings{DHT: true, Listen: local}, &program.State{Dir: t.TempDir()}, slog.New(slog.DiscardHandler),
		func(n *mesh.Node) { n.Relay = new(mesh.RelayConfig) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	server := open(t, t.TempDir(), node.Settings{Bootstrap: []string{relay.Addrs()[0].String()}})
	if _, err := server.Listen("hello"); err != nil {
		t.Fatal(err)
	}
	if err := server.WaitReserved(within(t), 1); err != nil {
		t.Fatal(err)
	}
	web, answer := unanswered(t, relay.Record)
	late := []string{web.URL}
	open(t, t.TempDir(), node.Settings{Bootstrap: late, Listen: local}) // which others may find
	client := open(t, t.TempDir(), node.Settings{Bootstrap: late, DHT: true})
	if _, err := client.Dial(within(t), server.ID().String()+":hello"); err == nil {
		t.Fatal("it is reached by nothing")
	}

	answer()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for ctx := within(t); ; <-again.C {
		c, err := client.Dial(ctx, server.ID().String()+":hello")
		if err == nil {
			c.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Listen("hello"); err != nil {
		t.Fatal(err)
	}
	if err := client.WaitReserved(within(t), 1); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoAnswer: while nobody of bootstrap answers, a node starts only if others could still reach it some day. It is reserved
// at relays that come late by a directory alone.
func TestNoAnswer(t *testing.T) {
	web, _ := unanswered(t, nil)
	late := []string{web.URL}
	for name, tt := range map[string]struct {
		s      node.Settings
		starts bool
	}{
		"relays only":        {s: node.Settings{Bootstrap: late}},
		"on the LAN":         {s: node.Settings{Bootstrap: late, LAN: true}},
		"none by the DHT":    {s: node.Settings{Bootstrap: late, DHT: true, Reservations: -1}},
		"by the DHT":         {s: node.Settings{Bootstrap: late, DHT: true}, starts: true},
		"by a registry":      {s: node.Settings{Bootstrap: late, Registries: []string{"http://127.0.0.1:1"}}, starts: true},
		"listens":            {s: node.Settings{Bootstrap: late, Listen: addrs(t, "/ip4/127.0.0.1/tcp/0"), Reservations: -1}, starts: true},
		"an address besides": {s: node.Settings{Bootstrap: append([]string{"/ip4/127.0.0.1/tcp/1/p2p/eyxhc7xzvcklmsfgd2sl2hovqweew5xk74xus2eppqwk2jz2ltoybzyb"}, late...)}, starts: true},
	} {
		n, err := node.Open(within(t), &tt.s, &program.State{Dir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
		if tt.starts != (err == nil) || err != nil && (program.Status(err) != program.Failed || !strings.Contains(err.Error(), "bootstrap from \""+web.URL)) {
			t.Errorf("%s: status %d: %v", name, program.Status(err), err)
		}
		if err == nil {
			n.Close()
		}
	}
}

// TestUnreachable: who has no address and knows nobody is told so, with what to set, and who has either is not.
func TestUnreachable(t *testing.T) {
	id := open(t, t.TempDir(), node.Settings{}).ID()
	for name, tt := range map[string]struct {
		s     node.Settings
		file  string
		text  string
		alone bool
	}{
		"nothing":       {s: node.Default(), alone: true},
		"without a DHT": {alone: true},
		"a name only":   {file: "hosts", text: id.String() + " ann\n", alone: true},
		"an address":    {file: "hosts", text: "/ip4/192.0.2.1/tcp/1/p2p/" + id.String() + " ann\n"},
		"known nodes":   {s: node.Default(), file: "dht", text: "x"},
		"not by these":  {file: "dht", text: "x", alone: true},
		"listens":       {s: node.Settings{Listen: addrs(t, "/ip4/127.0.0.1/tcp/0")}},
		"bootstrap":     {s: node.Settings{Bootstrap: []string{"/ip4/127.0.0.1/tcp/1/p2p/" + id.String()}}},
		"a registry":    {s: node.Settings{Registries: []string{"https://192.0.2.1"}}},
	} {
		state := &program.State{Dir: t.TempDir()}
		if tt.file != "" {
			if err := os.WriteFile(state.Path(tt.file), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := node.Unreachable(&tt.s, state)
		var said strings.Builder
		n, err := node.Open(within(t), &tt.s, state, slog.New(slog.NewTextHandler(&said, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		n.Close()
		if (want != "") != tt.alone || strings.Contains(said.String(), "level=WARN msg=\"nobody can reach this node: set node.bootstrap") != tt.alone {
			t.Errorf("%s: %q; %s", name, want, said.String())
		}
	}
}

// TestSettings: what can't be is told by name.
func TestSettings(t *testing.T) {
	for path, s := range map[string]node.Settings{
		"name": {Name: "Not A Name"}, "reservations": {Reservations: 9}, "operator": {Operator: strings.Repeat("x", 65)},
		"bootstrap": {Bootstrap: []string{"/ip4/192.0.2.1/tcp/1"}}, "registries": {Registries: []string{"ftp://x"}}, "registry-token-file": {TokenFile: "x"},
	} {
		if p := s.Validate(); len(p) != 1 || p[0].Path != path {
			t.Errorf("%s: %v", path, p)
		}
	}
	if p := (&node.Settings{Bootstrap: []string{"https://ann:secret@example.org"}}).Validate(); len(p) != 1 || strings.Contains(p[0].Text, "secret") {
		t.Error(p)
	}
	ok := node.Settings{Bootstrap: []string{"https://example.org", "/dnsaddr/example.org", "/ip4/192.0.2.1/tcp/1/p2p/eyxhc7xzvcklmsfgd2sl2hovqweew5xk74xus2eppqwk2jz2ltoybzyb"}, Registries: []string{"https://example.org"}, Name: "ann"}
	if p := ok.Validate(); len(p) != 0 {
		t.Error(p)
	}
}

// TestFiles that are needed and are not right.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tt := range map[string]struct {
		s    node.Settings
		want string
	}{
		"no passphrase":     {node.Settings{PassphraseFile: filepath.Join(dir, "none")}, "node.passphrase-file: secret: open " + filepath.Join(dir, "none")},
		"empty passphrase":  {node.Settings{PassphraseFile: write("empty", "\n")}, "is empty"},
		"short network key": {node.Settings{NetworkKeyFile: write("short", "00ff")}, "node.network-key-file: network key: " + filepath.Join(dir, "short") + " must hold 64 hexadecimal digits"},
		"no network key":    {node.Settings{NetworkKeyFile: write("words", strings.Repeat("no", 32))}, "64 hexadecimal digits"},
		"large secret":      {node.Settings{NetworkKeyFile: write("large", strings.Repeat("0", 5000))}, "over 4096 bytes"},
		"no token":          {node.Settings{Registries: []string{"https://192.0.2.1"}, TokenFile: filepath.Join(dir, "none")}, "node.registry-token-file: "},
	} {
		_, err := node.Open(within(t), &tt.s, &program.State{Dir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || program.Status(err) != program.Settings {
			t.Errorf("%s: status %d: %v", name, program.Status(err), err)
		}
		if p := tt.s.Check(); len(p) != 1 || !strings.Contains("node."+p[0].Path+": "+p[0].Text, tt.want) {
			t.Errorf("%s: Check says %v", name, p)
		}
	}
	first := open(t, t.TempDir(), node.Settings{Listen: addrs(t, "/ip4/127.0.0.1/tcp/0")})
	taken := node.Settings{Listen: []config.Addr{{Multiaddr: first.Addrs()[0][:2]}}}
	if _, err := node.Open(within(t), &taken, &program.State{Dir: t.TempDir()}, slog.New(slog.DiscardHandler), nil); program.Status(err) != program.Busy {
		t.Errorf("a taken port: %v", err)
	}
}

// TestNetworkKeyInState: one that is kept there counts, until it is forgotten.
func TestNetworkKeyInState(t *testing.T) {
	state := &program.State{Dir: t.TempDir()}
	is := func(want *[32]byte) {
		t.Helper()
		got, err := node.NetworkKey(&node.Settings{}, state)
		if err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%v, %v", got, err)
		}
	}
	is(nil)
	forget, err := node.KeepNetworkKey(state, &[32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	is(&[32]byte{7})
	if n := open(t, state.Dir, node.Settings{}); n.NetworkKey == nil || *n.NetworkKey != [32]byte{7} {
		t.Error(n.NetworkKey)
	}
	if err := forget(); err != nil {
		t.Fatal(err)
	}
	is(nil)
}
