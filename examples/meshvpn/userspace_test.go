//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
)

// mainVariable makes the test's binary the program itself.
const mainVariable = "SPLITMESH_MESHVPN_TEST_MAIN"

// play plays the role that the environment says, if it says any, and then ends the process.
var play = func() {}

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	play()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if path, err := exe(); err == nil {
			os.Remove(path)
		}
		os.Exit(status)
	}))
}

// dir is one that the user who runs the programs may write to.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "vpn") //nolint:usetesting // the parents of t.TempDir are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if id := nobody(); id != nil {
		if err := os.Chown(d, int(id.Uid), int(id.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// nobody is an ordinary user, when root runs the test.
func nobody() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// exe is a copy of the test's binary that the ordinary user may run.
var exe = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", "meshvpn")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	return f.Name(), errors.Join(err, f.Chmod(0o755), f.Close())
})

// command is meshvpn as an ordinary user runs it.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), mainVariable+"=1", "HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "MESHVPN_NODE_DHT=false", "MESHVPN_LOG_LEVEL=warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody()}
	return cmd
}

// A running is a meshvpn that runs.
type running struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	errs  bytes.Buffer
	ended bool
}

// run starts meshvpn, and has it end well with the test.
func run(t *testing.T, args ...string) *running {
	t.Helper()
	return begin(t, command(t, args...))
}

func begin(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{cmd: cmd}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr, r.lines = &r.errs, bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.end(t) })
	return r
}

// line is the next that it prints.
func (r *running) line(t *testing.T) string {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	s, err := r.lines.ReadString('\n')
	if err != nil {
		_ = r.cmd.Wait()
		r.ended = true
		t.Fatalf("%v: %v\n%s", r.cmd.Args[1:], err, &r.errs)
	}
	return strings.TrimSpace(s)
}

// end sends SIGTERM, after which it is to end by itself and in order.
func (r *running) end(t *testing.T) {
	t.Helper()
	if r.ended {
		return
	}
	r.ended = true
	late := time.AfterFunc(20*time.Second, func() { _ = r.cmd.Process.Signal(syscall.SIGABRT) })
	defer late.Stop()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", r.cmd.Args[1:], err, &r.errs)
	}
}

// once runs meshvpn to its end.
func once(t *testing.T, in string, args ...string) (out string, status int) {
	t.Helper()
	cmd := command(t, args...)
	cmd.Stdin = strings.NewReader(in)
	b, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(b), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b), 0
}

// relays are two, as flags: a peer that does not listen is reached by them only.
func relays(t *testing.T) []string {
	t.Helper()
	var addrs []string
	for range 2 {
		n := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}, Relay: new(mesh.RelayConfig)}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		addrs = append(addrs, n.Addrs()[0].String())
	}
	return []string{"--node.bootstrap", strings.Join(addrs, ",")}
}

func curl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not there")
	}
	b, err := exec.CommandContext(t.Context(), path, append([]string{"-sS", "--max-time", "60"}, args...)...).CombinedOutput()
	return string(b), err
}

// word is the last word of a line.
func word(line string) string { f := strings.Fields(line); return f[len(f)-1] }

// TestInvitedOverRelays is the whole of it, by an ordinary user: an invitation that needs relays, what is served to the
// one who was invited and to nobody else, and curl through both proxies. Only relays carry it: nobody listens.
func TestInvitedOverRelays(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintln(w, r.Host, len(b), err)
	}))
	defer web.Close()
	server, client, stranger := dir(t), dir(t), dir(t)
	way := relays(t)

	inviting := run(t, append(way, "invite", "--for", "bob", "--node.name", "ann", "--state", server)...)
	text := inviting.line(t)
	out, status := once(t, text, "join", "--state", client)
	if status != 0 || !strings.Contains(out, "The inviter is ann here, and this node is bob there.") {
		t.Fatal(status, out)
	}
	if err := inviting.cmd.Wait(); err != nil || !strings.Contains(inviting.errs.String(), "bob has joined") {
		t.Fatal(err, &inviting.errs)
	}
	inviting.ended = true

	serving := run(t, append(way, "serve", web.Listener.Addr().String(), "--as", "80", "--allow", "bob", "--state", server)...)
	id := word(serving.line(t))
	if out, status := once(t, text, "join", "--state", stranger); status == 0 {
		t.Error("the invitation is used by another:", out)
	}
	proxying := run(t, "proxy", "--socks", "127.0.0.1:0", "--http", "127.0.0.1:0", "--relays.only", "--state", client)
	socks, http := word(proxying.line(t)), word(proxying.line(t))
	for _, through := range []string{"socks5h://" + socks, "http://" + http} {
		for _, args := range [][]string{{}, {"-p"}, {"--data-binary", strings.Repeat("x", 1<<16)}} {
			size := 0
			if len(args) == 2 {
				size = 1 << 16
			}
			got, err := curl(t, append(args, "--proxy", through, "http://ann.mesh/")...)
			if want := fmt.Sprintln("ann.mesh", size, nil); err != nil || got != want {
				t.Errorf("%s %.20v: %q, %v", through, args, got, err)
			}
		}
		for _, target := range []string{"http://example.com/", "http://ann.mesh:81/", "http://carol.mesh/"} {
			if got, err := curl(t, "--fail", "--proxy", through, target); err == nil {
				t.Errorf("%s through %s: %s", target, through, got)
			}
		}
	}
	other := run(t, append(way, "proxy", "--socks", "127.0.0.1:0", "--http", "", "--state", stranger)...)
	if got, err := curl(t, "--proxy", "socks5h://"+word(other.line(t)), "http://"+id+".mesh/"); err == nil {
		t.Error("a stranger is served:", got)
	}
}

// TestUsage: what is missing or wrong is told, and how it is right.
func TestUsage(t *testing.T) {
	state := dir(t)
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"serve 80", program.Usage, "--allow PEER"},
		{"serve", program.Usage, "serve --help"},
		{"serve 80000 --allow-all", program.Usage, "neither a port nor"},
		{"serve 80 --allow carol", program.Usage, "neither an ID nor a petname"},
		{"serve 80 --as a/b --allow-all", program.Usage, "neither a port nor"},
		{"proxy --socks 0.0.0.0:0", program.Usage, "not a loopback address"},
		{"proxy --socks= --http=", program.Usage, "neither --socks nor --http"},
		{"proxy --password-file /nonexistent/file", program.Usage, "--password-file"},
		{"proxy --exit carol", program.Failed, "neither an ID nor a petname"},
		{"exit", program.Usage, "--allow PEER"},
		{"exit --net x --allow-all", program.Usage, "no network like"},
		{"forward local 8080 ann", program.Usage, "neither a port nor"},
		{"forward local 8080 " + strings.Repeat("a", 56) + ":80", program.Usage, "the checksum does not match"},
		{"serve 80 --allow " + strings.Repeat("a", 55), program.Usage, "copy it whole"},
		{"doctor ann", program.Failed, "names no port"},
		{"forward local 80000 ann:80", program.Usage, "invalid port"},
		{"forward local 0.0.0.0:8080 ann:80", program.Usage, "not a loopback address"},
		{"forward remote carol 8080 80", program.Usage, "neither an ID nor a petname"},
		{"forward remote ann 0 80", program.Usage, "is no port"},
		{"forward accept --allow-all", program.Usage, "--ports"},
		{"forward accept --allow-all --ports x", program.Usage, "are no ports"},
		{"invite", program.Usage, "--for bob"},
		{"invite --for bob --life 0s", program.Usage, "--life"},
		{"invite --for A", program.Usage, "is no petname"},
		{"invite --for bob", program.Settings, "nobody could find this node"},
		{"invite revoke bob", program.Failed, "invite list"},
		{"join", program.Usage, "begins with meshvpn1"},
		{"join meshvpn1abc", program.Usage, "standard input"},
	} {
		out, status := once(t, "", append(strings.Fields(tt.args), "--state", state)...)
		if status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %d, %s", tt.args, status, out)
		}
	}
	if err := newProgram().Docs(t.TempDir()); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if status := newProgram().Run(context.Background(), []string{"--help"}, nil, &b, &b); status != 0 {
		t.Error(b.String())
	}
}

// TestRelaysOnlyLate: over relays only, a peer that has a petname is no relay either when bootstrap names it late.
func TestRelaysOnlyLate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	peer := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}}
	if err := peer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	var answers atomic.Bool
	record := bootstrap.Handler(func() *registry.Record {
		r, err := peer.Record()
		if err != nil {
			t.Error(err)
		}
		return r
	})
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answers.Load() {
			http.NotFound(w, r)
			return
		}
		record.ServeHTTP(w, r)
	}))
	defer web.Close()
	was := http.DefaultTransport
	http.DefaultTransport = web.Client().Transport
	defer func() { http.DefaultTransport = was }()
	other, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string // of the peer
		only bool
		ways int // to another peer
	}{{"ann", true, 0}, {"", true, 1}, {"ann", false, 1}} {
		answers.Store(false)
		state := &program.State{Dir: t.TempDir()}
		if tt.name != "" {
			if err := os.WriteFile(state.Path("hosts"), []byte(peer.ID().String()+" "+tt.name+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		answered := make(chan struct{})
		log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.String() == "bootstrap has answered" {
				close(answered)
			}
			return a
		}}))
		s := defaults()
		s.Node.DHT, s.Relays.Only = false, tt.only
		s.Node.Bootstrap = []string{web.URL}
		s.Node.Listen = []config.Addr{{Multiaddr: multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}}
		h := &host{log: log, settings: s}
		n, err := node.Open(ctx, &s.Node, state, log, h.use)
		if err != nil {
			t.Fatal(err)
		}
		answers.Store(true)
		select {
		case <-answered:
		case <-ctx.Done():
			t.Fatal("bootstrap is not asked again")
		}
		if ways := n.Names.(mesh.AddressBook).Addrs(other.ID()); len(ways) != tt.ways {
			t.Errorf("%q, %v: %v", tt.name, tt.only, ways)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
