package mdns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
)

// meshVariable makes the test's program a node that is configured with nothing but its network key and its name.
const meshVariable = "SPLITMESH_MDNS_MESH"

// playMesh echoes at "echo", says "up", and then dials the name in each line, and says what came of it.
func playMesh(role string) int {
	var network byte
	var name string
	if _, err := fmt.Sscan(role, &network, &name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := playMeshAs(network, name, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func playMeshAs(network byte, name string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	listen, err := multiaddr.NewMultiaddr("/ip4/0.0.0.0/tcp/0/ws")
	if err != nil {
		return err
	}
	d := &Directory{NetworkKey: networkKey(network)}
	n := &mesh.Node{Name: name, NetworkKey: networkKey(network), Directory: d, ListenAddrs: []multiaddr.Multiaddr{listen}}
	if err := d.Start(ctx); err != nil {
		return err
	}
	defer d.Close()
	l, err := n.Listen("echo")
	if err != nil {
		return err
	}
	defer n.Close()
	go func() { // ends with the node
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the conn
				_, _ = io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	fmt.Fprintln(out, "up")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		c, err := n.Dial(ctx, lines.Text()+".mesh:echo")
		if errors.Is(err, registry.ErrNotFound) {
			fmt.Fprintln(out, "not found")
			continue
		}
		if err != nil {
			return err
		}
		got := make([]byte, 5)
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		c.Close()
		fmt.Fprintln(out, string(got))
	}
	return nil
}

// Two machines on a link that know nothing but their network key dial each other by name; with another key they see
// nobody.
func TestDialByName(t *testing.T) {
	ns := joined(t, [2]string{"192.0.2.1/24", "192.0.2.2/24"})
	node := func(namespace string, network byte, name string) *peer {
		return startedAs(t, namespace, fmt.Sprintf("%s=%d %s", meshVariable, network, name))
	}
	kitchen, cellar, stranger := node(ns[0], 1, "kitchen"), node(ns[1], 1, "cellar"), node(ns[1], 2, "stranger")
	for _, dial := range []struct {
		from       *peer
		name, says string
	}{
		{cellar, "kitchen", "hello"}, {kitchen, "cellar", "hello"},
		{stranger, "kitchen", "not found"}, {stranger, "cellar", "not found"}, {kitchen, "stranger", "not found"},
	} {
		if _, err := fmt.Fprintln(dial.from.in, dial.name); err != nil {
			t.Fatal(err)
		}
		dial.from.says(dial.says)
	}
}
