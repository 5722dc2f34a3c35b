package mesh_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"time"

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

// Real-time data: a frame every 20 ms with its number, over two relays at once. A
// frame that is late is of no use, so none is sent again, and the next is not held
// up; that one relay stalls or dies is not even noticed.
func ExampleConn_SendDatagramOverAll() {
	ctx := context.Background()
	var relays []multiaddr.Multiaddr
	for range 2 {
		relay := &mesh.Node{
			ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")},
			Relay:       &mesh.RelayConfig{},
		}
		defer relay.Close()
		if err := relay.Start(ctx); err != nil {
			log.Fatal(err)
		}
		relays = append(relays, relay.Addrs()...)
	}
	listener := &mesh.Node{Bootstrap: relays}
	defer listener.Close()
	l, err := listener.Listen("voice")
	if err != nil {
		log.Fatal(err)
	}
	if err := listener.WaitReserved(ctx, 2); err != nil {
		log.Fatal(err)
	}
	speaker := &mesh.Node{Bootstrap: relays}
	defer speaker.Close()
	go func() {
		dialer := &mesh.Dialer{Node: speaker, RelayedOnly: true}
		conn, err := dialer.Dial(ctx, listener.ID().String()+":voice")
		if err != nil {
			log.Print(err)
			return
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for number := uint32(1); ; number++ {
			<-tick.C
			frame := binary.BigEndian.AppendUint32(nil, number) // and 20 ms of sound
			if err := conn.(*mesh.Conn).SendDatagramOverAll(frame); err != nil {
				return // the listener has hung up
			}
		}
	}()

	conn, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	played := uint32(0)
	for frames := 0; frames < 5; {
		frame, err := conn.(*mesh.Conn).ReceiveDatagram(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if number := binary.BigEndian.Uint32(frame); number > played { // else it is too late to play it
			played = number
			frames++
		}
	}
	fmt.Println("5 frames played")
	// Output: 5 frames played
}
