//go:build !js

package websocket_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A website and the mesh on one port. A visitor sees the website wherever they
// look; a peer, whose opening is admitted, gets a connection.
func ExampleTransport_Handler() {
	site := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Welcome.") })
	admit := func(opening []byte) func(net.Conn) {
		if string(opening) != "I am a peer" { // a real one is a handshake's first message
			return nil
		}
		return func(c net.Conn) {
			if c == nil {
				return // it went away meanwhile
			}
			io.WriteString(c, "Hello, peer.")
			c.Close()
		}
	}
	t := &websocket.Transport{}
	server := httptest.NewServer(t.Handler(admit, site))
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Println(string(page))

	addr, err := transport.Parse("/ip4/127.0.0.1/tcp/" + server.URL[len("http://127.0.0.1:"):] + "/ws")
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := t.Dial(context.Background(), addr, []byte("I am a peer"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	greeting, _ := io.ReadAll(conn)
	fmt.Println(string(greeting))
	// Output:
	// Welcome.
	// Hello, peer.
}
