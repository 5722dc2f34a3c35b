package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/blob"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// A file goes from one node to another, in parts that each prove themselves. Were the
// conn to break, it would go on from where it stopped.
func ExampleDialer_SendBlob() {
	network := memory.NewNetwork(memory.Options{})
	sender := &mesh.Node{Transports: []transport.Transport{network.Host("sender")}}
	receiver := &mesh.Node{
		Transports:  []transport.Transport{network.Host("receiver")},
		ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/memory/0")},
	}
	defer sender.Close()
	defer receiver.Close()
	l, err := receiver.Listen("files")
	if err != nil {
		log.Fatal(err)
	}
	sender.Bootstrap = receiver.Addrs()

	dir, err := os.MkdirTemp("", "blob")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "letter")
	received := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = mesh.ReceiveBlob(context.Background(), conn, path, blob.Options{MaxSize: 1 << 20})
		}
		received <- err
	}()

	content := strings.NewReader("a letter, or a terabyte")
	d := &mesh.Dialer{Node: sender}
	info, err := d.SendBlob(context.Background(), l.Addr().String(), content, content.Size(), blob.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := <-received; err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(path)
	fmt.Printf("%d bytes: %s %v\n", info.Size, b, err)
	// Output: 23 bytes: a letter, or a terabyte <nil>
}

// blobNodes are two nodes, and a listener at the second.
func blobNodes(t *testing.T) (*mesh.Dialer, net.Listener) {
	network := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { network.Close() })
	to := start(t, &mesh.Node{
		Identity: key(t, 2), Transports: []transport.Transport{network.Host("to")},
		ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
	})
	l, err := to.Listen("files")
	if err != nil {
		t.Fatal(err)
	}
	from := start(t, &mesh.Node{
		Identity: key(t, 1), Transports: []transport.Transport{network.Host("from")}, Bootstrap: to.Addrs(),
		Names: petnames{"box": to.ID()},
	})
	return &mesh.Dialer{Node: from}, l
}

// A breaking conn is closed when n bytes have been read.
type breaking struct {
	net.Conn
	n int
}

func (c *breaking) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), max(1, c.n))])
	if c.n -= n; c.n <= 0 {
		c.Close()
	}
	return n, err
}

// TestSendBlobResumes: a conn that breaks again and again costs no part twice.
func TestSendBlobResumes(t *testing.T) {
	d, l := blobNodes(t)
	data := make([]byte, 1<<20+5)
	rand.NewChaCha8([32]byte{1}).Read(data)
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	var got []int64
	wg.Go(func() {
		for try := range 4 {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			if try < 3 {
				conn = &breaking{conn, 300_000}
			}
			info, err := mesh.ReceiveBlob(t.Context(), conn, path, blob.Options{})
			if try < 3 && !blob.Broken(err) || try == 3 && err != nil {
				t.Error(try, err)
			}
			got = append(got, info.Carried)
		}
	})
	info, err := d.SendBlob(within(t), "box.mesh:files", bytes.NewReader(data), int64(len(data)), blob.Options{ChunkSize: blob.MinChunk})
	if err != nil {
		l.Close()
	}
	wg.Wait()
	if err != nil || info.Size != int64(len(data)) {
		t.Fatal(info, err)
	}
	var total int64
	for _, n := range got {
		total += n
	}
	if total != info.Size {
		t.Errorf("conns carried %v, which is not the %d bytes once", got, info.Size)
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, data) {
		t.Error("another file", err)
	}
}

// TestSendBlobEnds: what no other conn would mend is returned at once, and a caller
// that gives up is told why the last try failed.
func TestSendBlobEnds(t *testing.T) {
	d, l := blobNodes(t)
	send := func(ctx context.Context, addr string) error {
		_, err := d.SendBlob(ctx, addr, strings.NewReader("hello"), 5, blob.Options{})
		return err
	}
	var malformed *mesh.AddrError
	if err := send(within(t), "nobody"); !errors.As(err, &malformed) {
		t.Error(err)
	}
	if err := send(within(t), strings.Replace(l.Addr().String(), ":files", ":none", 1)); !errors.Is(err, mesh.ErrNoService) {
		t.Error(err)
	}
	if _, err := d.SendBlob(within(t), l.Addr().String(), strings.NewReader("hell"), 5, blob.Options{}); err == nil {
		t.Error("five bytes of four")
	}

	ctx, cancel := context.WithCancelCause(within(t))
	why := errors.New("enough")
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	wg.Go(func() {
		for try := 0; ; try++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			switch {
			case try == 0:
				mesh.ReceiveBlob(t.Context(), conn, path, blob.Options{MaxSize: 1})
				continue
			case try == 3:
				cancel(why)
			}
			conn.Close()
		}
	})
	var size *blob.SizeError
	if err := send(within(t), l.Addr().String()); !errors.As(err, &size) || size.Max != 1 {
		t.Error(err)
	}
	if err := send(ctx, l.Addr().String()); !errors.Is(err, why) {
		t.Error(err)
	}
	l.Close()
	wg.Wait()
}
