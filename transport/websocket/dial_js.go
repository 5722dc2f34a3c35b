package websocket

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/coder/websocket"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

// Dial implements [transport.Transport]. A browser does not tell a refusal from
// any other failure.
func (t *Transport) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	tgt, err := parseTarget(addr)
	if err != nil {
		return nil, err
	}
	if len(opening) > transport.MaxOpening {
		return nil, fmt.Errorf("websocket: dial %v: %w", addr, transport.ErrOpeningTooLarge)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("websocket: dial %v: %w", addr, err)
	}
	u := t.url(tgt).String()
	ws, _, err := websocket.Dial(ctx, u, &websocket.DialOptions{
		Subprotocols: []string{subprotocol, bearerToken + encodeOpening(opening)},
	})
	if err != nil {
		return nil, fmt.Errorf("websocket: dial %v: the browser's console may say more: %w", addr, err)
	}
	return newConn(newLink(ws, u), orDefault(t.PingInterval, DefaultPingInterval)), nil
}

// Listen fails with [transport.ErrUnsupported]: a browser cannot.
func (t *Transport) Listen(_ context.Context, addr multiaddr.Multiaddr, _ transport.Admit) (transport.Listener, error) {
	return nil, fmt.Errorf("websocket: listen on %v: %w: a browser cannot listen", addr, transport.ErrUnsupported)
}

// Handler returns next, or [http.NotFoundHandler] if that is nil: a browser
// serves nobody.
func (t *Transport) Handler(_ transport.Admit, next http.Handler) http.Handler {
	if next == nil {
		return http.NotFoundHandler()
	}
	return next
}
