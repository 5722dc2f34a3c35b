package memory_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport/memory"
)

func Example() {
	ctx := context.Background()
	network := memory.NewNetwork(memory.Options{})
	defer network.Close()

	l, err := network.Host("bob").Listen(ctx, multiaddr.StringCast("/memory/0"), func(opening []byte) func(net.Conn) {
		if string(opening) != "it's alice" {
			return nil
		}
		return func(c net.Conn) {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := network.Host("alice").Dial(ctx, l.Multiaddr(), []byte("it's alice"))
	if err != nil {
		fmt.Println(err)
		return
	}
	said, _ := io.ReadAll(conn)
	conn.Close()
	fmt.Printf("%v says %q\n", conn.RemoteAddr(), said)

	_, err = network.Host("mallory").Dial(ctx, l.Multiaddr(), []byte("it's me"))
	fmt.Println(err)
	// Output:
	// /memory/1 says "hello"
	// memory: host "mallory": dial /memory/1: the other side did not admit us
}
