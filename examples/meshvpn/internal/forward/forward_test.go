package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// node is one that listens at this machine, with a gate, and knows the others.
func node(t *testing.T, g *forward.Gate, others ...*mesh.Node) *mesh.Node {
	t.Helper()
	n := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}, Authorize: g.Authorize}
	for _, o := range others {
		n.Bootstrap = append(n.Bootstrap, o.Addrs()...)
	}
	if err := n.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// background runs f until the test ends, and waits for it.
func background(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func tcp(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// answerer reads each conn to its end and only then writes it back in capitals, so it works with a half-close only.
func answerer(t *testing.T) string {
	l := tcp(t)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err == nil {
					_, _ = c.Write(bytes.ToUpper(b))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func ask(t *testing.T, addr, text string) string {
	t.Helper()
	c := dial(t, addr)
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLocal: from a port here to a service there, the ends of both directions apart.
func TestLocal(t *testing.T) {
	var g, none forward.Gate
	server := node(t, &g)
	client := node(t, &none, server)
	stranger := node(t, &none, server)
	l, err := g.Listen(server, "tcp/80", &forward.Access{Peers: map[identity.ID]bool{client.ID(): true}})
	if err != nil {
		t.Fatal(err)
	}
	target := answerer(t)
	background(t, func(ctx context.Context) error { return forward.Publish(ctx, l, target, quiet) })
	addr := server.ID().String() + ":tcp/80"
	at := tcp(t)
	background(t, func(ctx context.Context) error { return forward.Local(ctx, at, client.Dial, addr, quiet) })

	long := strings.Repeat("splitmesh ", 1<<18) // so that large buffers are used
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := long[:len(long)*i/20] + strconv.Itoa(i) + "a"
			if got := ask(t, at.Addr().String(), text); got != strings.ToUpper(text) {
				t.Errorf("%d bytes came back of %d", len(got), len(text))
			}
		})
	}
	all.Wait()

	if _, err := stranger.Dial(within(t), addr); !errors.Is(err, mesh.ErrRefused) {
		t.Error("one who is not allowed:", err)
	}
	if _, err := g.Listen(server, "tcp/80", &forward.Access{All: true}); !errors.Is(err, mesh.ErrServiceTaken) {
		t.Error("a second listener:", err)
	}
}

// TestReset: who would take a part for the whole is told that it is not.
func TestReset(t *testing.T) {
	a, b, c := tcp(t), tcp(t), make(chan net.Conn, 2)
	for _, l := range []net.Listener{a, b} {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			c <- conn
		}()
	}
	left := dial(t, a.Addr().String())
	x := <-c
	right := dial(t, b.Addr().String())
	y := <-c
	ended := make(chan error)
	go func() { ended <- forward.Pipe(context.Background(), x, y) }()
	if _, err := left.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(right, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_ = left.SetLinger(0)
	left.Close() // a reset
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error("the end that was not one:", err)
	}
	if err := <-ended; err == nil {
		t.Error("nothing was wrong")
	}
}

// TestResetAcross: and so is a peer.
func TestResetAcross(t *testing.T) {
	var g, h forward.Gate
	peer := node(t, &g)
	mine := node(t, &h, peer)
	l, err := g.Listen(peer, "tcp/80", &forward.Access{All: true})
	if err != nil {
		t.Fatal(err)
	}
	far, err := mine.Dial(within(t), peer.ID().String()+":tcp/80")
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	a := tcp(t)
	left := dial(t, a.Addr().String())
	x, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- forward.Pipe(context.Background(), x, far) }()
	if _, err := left.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(there, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_ = left.SetLinger(0)
	left.Close() // a reset
	if _, err := there.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Error("the end that was not one:", err)
	}
	if err := <-ended; err == nil {
		t.Error("nothing was wrong")
	}
}

// TestRemote: a port there leads here, for who may, as long as it is wished.
func TestRemote(t *testing.T) {
	var g, h forward.Gate
	peer := node(t, &g)
	mine := node(t, &h, peer)
	stranger := node(t, new(forward.Gate), peer)
	l, err := g.Listen(peer, forward.RemoteService, &forward.Access{Peers: map[identity.ID]bool{mine.ID(): true}})
	if err != nil {
		t.Fatal(err)
	}
	free := tcp(t)
	port := uint16(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	ports := []forward.PortRange{{First: port, Last: port}}
	background(t, func(ctx context.Context) error { return forward.Accept(ctx, l, ports, peer.Dial, quiet) })
	target := answerer(t)

	ctx, end := context.WithCancel(within(t))
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- forward.Remote(ctx, &mesh.Dialer{Node: mine}, &h, peer.ID(), port, target, quiet, func(addr string) { ready <- addr })
	}()
	var addr string
	select {
	case addr = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	if got := ask(t, addr, "from there"); got != "FROM THERE" {
		t.Error(got)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ; ; <-again.C {
		c, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			c.Close()
		}
		if soon.Err() != nil {
			t.Fatal("the port is still there")
		}
	}
	none := func(string) { t.Error("a port that may not be had") }
	if err := forward.Remote(within(t), &mesh.Dialer{Node: mine}, &h, peer.ID(), port+1, target, quiet, none); err == nil || !strings.Contains(err.Error(), "not among those") {
		t.Error("another port:", err)
	}
	if err := forward.Remote(within(t), &mesh.Dialer{Node: stranger}, new(forward.Gate), peer.ID(), port, target, quiet, none); !errors.Is(err, mesh.ErrRefused) {
		t.Error("a stranger:", err)
	}
}

func TestNames(t *testing.T) {
	id := "bc5arsjghzx5sukvdz3lqgiee3ev35ghcrk2h7ddexholegjdefvudab"
	for in, want := range map[string]string{"ann": "ann.mesh", "ann.mesh": "ann.mesh", id: id, id + ".mesh": id, "": "", "Ann": "", "a.b": "", "a:b": "", "-a": ""} {
		if got, err := forward.PeerAddr(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{"80": "tcp/80", "65535": "tcp/65535", "db": "tcp/db", "": "", "0": "", "65536": "", "080": "", "+80": "", "a/b": "", "../x": ""} {
		if got, err := forward.Service(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]forward.PortRange{"80": {80, 80}, "8000-8099": {8000, 8099}, "": {}, "0": {}, "9-8": {}, "1-65536": {}, "-1": {}, "a": {}} {
		if got, err := forward.ParsePorts(in); got != want || (err == nil) != (want != forward.PortRange{}) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:80", "[::]:0", "example.com:80", ":0"} {
		if _, err := forward.ListenLoopback(t.Context(), addr); !errors.Is(err, forward.ErrNotLoopback) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestAccess(t *testing.T) {
	key, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	hosts := &file.Hosts{Path: filepath.Join(t.TempDir(), "hosts")}
	if err := os.WriteFile(hosts.Path, []byte(key.ID().String()+" ann\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"ann", "ann.mesh", key.ID().String()} {
		if a, err := forward.NewAccess(hosts, []string{who}, false); err != nil || !a.Peers[key.ID()] || a.All {
			t.Errorf("%q: %v, %v", who, a, err)
		}
	}
	if _, err := forward.NewAccess(hosts, nil, false); err == nil {
		t.Error("nobody, and it is no error")
	}
	if _, err := forward.NewAccess(hosts, []string{"ann", "bob"}, false); err == nil {
		t.Error("bob is nobody")
	}
}

// FuzzMessage: what is read is bounded, and no byte beyond it is taken.
func FuzzMessage(f *testing.F) {
	var b bytes.Buffer
	if err := forward.WriteMessage(&b, map[string]int{"a": 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(append(b.Bytes(), "rest"...))
	f.Add([]byte{0xff, 0xff, '{'})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var v any
		err := forward.ReadMessage(r, &v)
		if read := len(in) - r.Len(); read > forward.MaxMessage+2 || err == nil && read != 2+int(in[0])<<8+int(in[1]) {
			t.Errorf("%d bytes read: %v", read, err)
		}
	})
}
