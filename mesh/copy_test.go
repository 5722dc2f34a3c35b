package mesh_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
)

// tcpPair is a TCP connection of the loopback.
func tcpPair(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// A buffered conn has bytes that its socket has not any more.
type buffered struct {
	*net.TCPConn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b buffered) WriteTo(w io.Writer) (int64, error) { return b.r.WriteTo(w) }

// io.Copy carries all bytes, and the end, from a TCP conn through the mesh to another.
func TestCopy(t *testing.T) {
	server := start(t, &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "x", 0)
	client := start(t, &mesh.Node{Bootstrap: server.Addrs()})
	random := rand.NewChaCha8([32]byte{2})
	for name, tt := range map[string]struct {
		size, write int
		wrap        func(*net.TCPConn) io.Reader
	}{
		"nothing":        {0, 1, nil},
		"a byte":         {1, 1, nil},
		"small writes":   {100_000, 777, nil},
		"large writes":   {32 << 20, 1 << 20, nil},
		"whole chunks":   {6 * 32 << 10, 32 << 10, nil},
		"a type of ours": {1 << 20, 10_000, func(c *net.TCPConn) io.Reader { return buffered{c, bufio.NewReader(c)} }},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := connect(t, &mesh.Dialer{Node: client}, l)
			app, in := tcpPair(t)
			out, far := tcpPair(t)
			want := make([]byte, tt.size)
			random.Read(want)
			go func() { // ends with all written
				for p := want; len(p) > 0; {
					n := min(tt.write, len(p))
					if _, err := app.Write(p[:n]); err != nil {
						t.Error(err)
						return
					}
					p = p[n:]
				}
				app.CloseWrite()
			}()
			var src io.Reader = in
			if tt.wrap != nil {
				src = tt.wrap(in)
				src.(buffered).r.Peek(100)
			}
			go func() { // ends with what comes
				if n, err := here.ReadFrom(src); n != int64(tt.size) || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				here.CloseWrite()
			}()
			go func() { // likewise
				if n, err := io.Copy(out, there); n != int64(tt.size) || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				out.CloseWrite()
			}()
			if got, err := io.ReadAll(far); !bytes.Equal(got, want) || err != nil {
				t.Errorf("%d bytes of %d, or others; %v", len(got), len(want), err)
			}
		})
	}
}

// What ends a copy is told, of either side, and what came before has been written.
func TestCopyErrors(t *testing.T) {
	server := start(t, &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "x", 0)
	client := start(t, &mesh.Node{Bootstrap: server.Addrs()})
	here, there := connect(t, &mesh.Dialer{Node: client}, l)
	app, in := tcpPair(t)
	io.WriteString(app, "hello")
	in.SetReadDeadline(time.Now().Add(time.Millisecond))
	got := make([]byte, 5)
	for n := int64(0); n < 5; { // the deadline may pass before anything has come
		k, err := here.ReadFrom(in)
		if n += k; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("source's deadline: %v", err)
		}
		in.SetReadDeadline(time.Now().Add(time.Millisecond))
	}
	if _, err := io.ReadFull(there, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	there.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := there.WriteTo(io.Discard); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("conn's deadline: %d, %v", n, err)
	}
	there.SetReadDeadline(time.Time{})
	io.WriteString(here, "more")
	broken := errors.New("the disk is full")
	if n, err := there.WriteTo(failing{broken}); n != 2 || !errors.Is(err, broken) {
		t.Errorf("writer's error: %d, %v", n, err)
	}
	io.WriteString(here, "and more")
	if n, err := there.WriteTo(failing{nil}); n != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that takes a part: %d, %v", n, err)
	}
	here.Close()
	in.SetReadDeadline(time.Time{})
	io.WriteString(app, "x")
	if _, err := here.ReadFrom(in); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed conn: %v", err)
	}
}

// A failing Writer takes two bytes.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 2, f.err }
