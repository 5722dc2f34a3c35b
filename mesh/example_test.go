package mesh_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A relay, a node behind it, and one that reaches it by its ID alone.
func Example() {
	relay := &mesh.Node{
		ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")},
		Relay:       &mesh.RelayConfig{},
	}
	defer relay.Close()
	if err := relay.Start(context.Background()); err != nil {
		log.Fatal(err)
	}

	server := &mesh.Node{Bootstrap: relay.Addrs()}
	defer server.Close()
	l, err := server.Listen("greeting")
	if err != nil {
		log.Fatal(err)
	}
	if err := server.WaitReserved(context.Background(), 1); err != nil {
		log.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "hello over the mesh")
	}()

	client := &mesh.Node{Bootstrap: relay.Addrs()}
	defer client.Close()
	conn, err := client.Dial(context.Background(), server.ID().String()+":greeting")
	if err != nil {
		log.Fatal(err)
	}
	greeting, err := io.ReadAll(conn)
	fmt.Println(string(greeting), err)
	// Output: hello over the mesh <nil>
}

// A dialler that uses three relays at once, none of which carries more than half.
func ExampleDialer() {
	node := &mesh.Node{ /* Bootstrap: four relays, one to spare */ }
	defer node.Close()
	dialer := &mesh.Dialer{
		Node:        node,
		RelayedOnly: true,
		Paths:       3,
		Split:       splitter.Policy{MinPaths: 3, MaxShare: 0.5},
	}
	conn, err := dialer.Dial(context.Background(), "<peer's ID>:files")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for _, path := range conn.(*mesh.Conn).Paths() {
		fmt.Println(path.Relay, path.Sent)
	}
}
