// Package mesh gives ordinary net.Conns to a peer's key.
//
//	n := &mesh.Node{Bootstrap: relays}
//	defer n.Close()
//	conn, err := n.Dial(ctx, "<peer's ID>:echo")
//
// and, at the peer,
//
//	l, err := n.Listen("echo")
//	conn, err := l.Accept() // conn.RemoteAddr() says who is calling
//
// A [Node] finds the ways to a peer (its own addresses, relays at which it holds
// a reservation), proves both ends to each other over each, and splits what is
// sent over as many as the [splitter.Policy] wants. When a relay dies, what it
// had not delivered travels over the others, and another relay takes its place. A
// conn that began over relays moves to a direct path as soon as there is one; when
// every path is lost, it waits, and goes on where it stopped.
//
// It promises that the peer at the other end of a conn holds the private key of
// RemoteAddr's ID, that nobody in between reads or alters a byte, that no byte is
// lost or doubled while a path lives or comes back within [Node.Grace], and that
// with relays only, no relay carries more than its share. It does not hide that two peers talk, from their
// relays or from those who watch both ends; see docs/THREATS.md.
package mesh

import (
	"context"
	"net"
)

// The default node is behind the package's functions. It is made at the first use, or at a later one if it cannot be made
// then: a name in SPLITMESH_BOOTSTRAP may not resolve yet. Who has put something into its turn may make it.
var (
	defaultTurn = make(chan struct{}, 1)
	defaultMade *Node
)

func defaultNode(ctx context.Context) (*Node, error) {
	select {
	case defaultTurn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-defaultTurn }()
	if defaultMade != nil {
		return defaultMade, nil
	}
	n, err := nodeFromEnvironment(ctx)
	if err == nil {
		defaultMade = n
	}
	return n, err
}

// Dial connects to "peer:service" on the default node, which is configured from
// the environment:
//
//	SPLITMESH_BOOTSTRAP   where to begin, separated by commas: multiaddrs of relays and peers, which end in /p2p/ID;
//	                      https://HOST, whose node publishes its record there; /dnsaddr/NAME, with or without /p2p/ID
//	SPLITMESH_LISTEN      multiaddrs to listen on, separated by commas
//	SPLITMESH_KEYSTORE    the node's key, as written by identity/keystore; none: a fresh key
//	SPLITMESH_PASSPHRASE_FILE   a file that holds the keystore's passphrase
//	SPLITMESH_NETWORK_KEY_FILE  a file that holds the private network's key: 64 hexadecimal digits
//
// Files that hold secrets must be readable by their owner alone. The node's
// warnings go to slog.Default. See [Close] for how to end in order.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	n, err := defaultNode(ctx)
	if err != nil {
		return nil, err
	}
	return n.Dial(ctx, addr)
}

// Close closes the default node, after what was written has arrived, for 5 s at
// most. A program that ends without it may lose what its last Writes accepted, and
// its peers see an error where they would see the end of the data:
//
//	defer mesh.Close()
func Close() error {
	defaultTurn <- struct{}{}
	if defaultMade == nil {
		defaultMade = new(Node) // whoever comes later finds it closed
	}
	n := defaultMade
	<-defaultTurn
	return n.Close()
}

// Listen listens on a service of the default node; see [Dial].
func Listen(service string) (net.Listener, error) {
	n, err := defaultNode(context.Background())
	if err != nil {
		return nil, err
	}
	if len(n.Bootstrap)+len(n.ListenAddrs) == 0 {
		n.Logger.Warn("nobody can reach this node: set SPLITMESH_BOOTSTRAP to relays, or SPLITMESH_LISTEN to an address", "service", service)
	}
	return n.Listen(service)
}
