// Httpmesh serves HTTP and gRPC over the mesh with the servers and clients that
// everybody uses, unchanged:
//
//	go run ./examples/httpmesh             over three relays
//	go run ./examples/httpmesh -relays 0   over a WebSocket from one to the other
//
// A server takes any net.Listener, and node.Listen returns one:
//
//	l, err := node.Listen("80")
//	err = httpServer.Serve(l)
//	err = grpcServer.Serve(l)
//
// A client takes any function that dials. An ID is a valid host name, so that it
// can stand in a URL:
//
//	client := &http.Client{Transport: &http.Transport{DialContext: node.DialContext}}
//	resp, err := client.Get("http://" + id + ":80/")
//
//	cc, err := grpc.NewClient("passthrough:///"+id+":grpc", grpc.WithContextDialer(dial))
//
// What comes with it: the client needs no address of the server, which may be
// behind a home router, and no certificate, as the ID in the URL is the key that
// the other end must hold. The server sees in RemoteAddr the ID of who is
// calling, proven in the same way. So HTTP is plain and gRPC's credentials are
// "insecure": below them all is encrypted from end to end, and split.
//
// The program makes all the nodes that it needs in one process; they talk over
// real sockets on the loopback interface. The server is reached over the relays
// alone unless there are none.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "httpmesh:", err)
		stop()
		os.Exit(1)
	}
}

const usage = `usage: httpmesh [-relays N]

Serves HTTP and gRPC over the mesh, and asks for both.

  -relays N   relays to reach the server over, 1 to 8 (default 3), or 0 to go to
              it directly
`

func run(ctx context.Context, args []string, out io.Writer) error {
	set := flag.NewFlagSet("httpmesh", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	relays := set.Int("relays", 3, "")
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return err
	case err != nil:
		return fmt.Errorf("%w; -h shows what there is", err)
	case set.NArg() > 0:
		return fmt.Errorf("%q is not a flag; -h shows what there is", set.Arg(0))
	case *relays < 0 || *relays > 8:
		return fmt.Errorf("-relays is %d, want 0 to 8", *relays)
	}
	w, err := newWorld(ctx, *relays)
	if err != nil {
		return err
	}
	defer w.Close()
	s, err := serve(ctx, w)
	if err != nil {
		return err
	}
	if err = browse(ctx, w, out); err == nil {
		err = call(ctx, w, out)
	}
	return errors.Join(err, s.shutdown(ctx))
}
