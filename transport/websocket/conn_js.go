package websocket

import (
	"context"
	"net"
	"time"

	"github.com/coder/websocket"
)

// A link is what is beneath a WebSocket, of which a browser shows nothing.
type link struct{ url urlAddr }

// A urlAddr is the URL dialled: a browser tells no other address.
type urlAddr string

func (urlAddr) Network() string  { return "websocket" }
func (a urlAddr) String() string { return string(a) }

func (l link) LocalAddr() net.Addr  { return urlAddr("browser") }
func (l link) RemoteAddr() net.Addr { return l.url }

// A browser pings and answers pings by itself: silence tells nothing, so there is
// always something heard.
func (l link) ping()        {}
func (l link) heard() int64 { return time.Now().UnixNano() }

func (l link) send(ws *websocket.Conn, p []byte) error {
	return ws.Write(context.Background(), websocket.MessageBinary, p)
}

// shut closes without waiting for the answer. Of the statuses of RFC 6455 a script
// may only send the normal one.
func (l link) shut(ws *websocket.Conn, _ websocket.StatusCode) {
	// Ends when the browser has closed: it has a time limit of its own.
	go ws.Close(websocket.StatusNormalClosure, "")
}
