package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/coder/websocket"
)

// A link is a browser's WebSocket, which shows nothing of what is beneath it.
type link struct {
	ws  *websocket.Conn
	url urlAddr
	msg io.Reader // what is left of the message being read, or nil
}

var (
	errText   = errors.New("protocol error: a text message came, where all are binary")
	errTooBig = fmt.Errorf("protocol error: a message over %d bytes came", MaxReadMessage)
)

func newLink(ws *websocket.Conn, url string) *link {
	ws.SetReadLimit(MaxReadMessage)
	return &link{ws: ws, url: urlAddr(url)}
}

// A urlAddr is the URL dialled: a browser tells no other address.
type urlAddr string

func (urlAddr) Network() string  { return "websocket" }
func (a urlAddr) String() string { return string(a) }

func (l *link) LocalAddr() net.Addr  { return urlAddr("browser") }
func (l *link) RemoteAddr() net.Addr { return l.url }

// A browser pings and answers pings by itself: silence tells nothing, so there is
// always something heard.
func (l *link) ping()        {}
func (l *link) heard() int64 { return time.Now().UnixNano() }

// read reads from the current message or, at its end, from the next.
func (l *link) read(p []byte) (int, error) {
	for {
		if l.msg == nil {
			kind, msg, err := l.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if kind != websocket.MessageBinary {
				return 0, errText
			}
			l.msg = msg
		}
		n, err := l.msg.Read(p)
		if err == io.EOF {
			l.msg, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (l *link) send(p []byte) error {
	return l.ws.Write(context.Background(), websocket.MessageBinary, p)
}

// failure says with what status and for what cause an error of the link's ends the
// connection.
func failure(err error) (s status, cause error) {
	switch code := websocket.CloseStatus(err); {
	case code == websocket.StatusNormalClosure, code == websocket.StatusGoingAway, code == websocket.StatusNoStatusRcvd:
		return abrupt, io.EOF // it has been answered
	case code != -1:
		return abrupt, fmt.Errorf("%w: %w", errPeerClosed, err)
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return abrupt, io.EOF
	case errors.Is(err, errText):
		return statusUnsupported, errText
	case errors.Is(err, websocket.ErrMessageTooBig):
		return statusTooBig, errTooBig
	case errors.Is(err, net.ErrClosed): // not by us, or there would be a cause
		return abrupt, errPeerClosed
	default:
		return statusProtocolError, err
	}
}

// shut closes without waiting for the answer. Of the statuses of RFC 6455 a script
// may only send the normal one.
func (l *link) shut(status) {
	// Ends when the browser has closed: it has a time limit of its own.
	go l.ws.Close(websocket.StatusNormalClosure, "")
}
