//go:build !js

package websocket

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/splitmesh/splitmesh/transport"
)

// Handler returns a handler that upgrades the requests whose opening is admitted,
// whatever their path, and passes every other one on to next as it came, so that
// next answers it as it answers anyone. next may be nil: [http.NotFoundHandler].
// It needs a server for HTTP/1.1, which may serve HTTP/2 too.
func (t *Transport) Handler(admit transport.Admit, next http.Handler) http.Handler {
	if next == nil {
		next = http.NotFoundHandler()
	}
	return &handler{transport: t, admit: admit, next: next}
}

type handler struct {
	transport *Transport
	admit     transport.Admit
	next      http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// All that could make the upgrade fail is looked at before admit, so that
	// nobody is admitted in vain and no failure answers in our own words.
	opening, ok := openingOf(r.Header)
	hj, can := hijacker(w)
	if ok && can && isUpgrade(r) {
		if deliver := h.admit(opening); deliver != nil {
			// The arrival's own goroutine, which is the admitter's. Not this one:
			// it holds the request, and a listener waits for it.
			go deliver(h.upgrade(w, hj, r))
			return
		}
	}
	h.next.ServeHTTP(w, r)
}

// upgrade returns nil when the client is gone. It is not a *conn then either.
func (h *handler) upgrade(w http.ResponseWriter, hj http.Hijacker, r *http.Request) net.Conn {
	hw := &hijackWriter{ResponseWriter: w, hijacker: hj}
	ws, err := websocket.Accept(hw, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol},
		// The Origin check keeps other sites from using a visitor's cookies. Ours
		// is the opening, which no other site has.
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil
	}
	if hw.evicted {
		_ = ws.CloseNow() // its connection is gone already
		return nil
	}
	return newConn(ws, hw.link, orDefault(h.transport.PingInterval, DefaultPingInterval))
}

// openingOf finds the opening in a request's header.
func openingOf(h http.Header) (opening []byte, ok bool) {
	token, ok := "", false
	if auth := h["Authorization"]; len(auth) == 1 {
		var scheme string
		scheme, token, _ = strings.Cut(auth[0], " ")
		ok = strings.EqualFold(scheme, bearer)
	} else if len(auth) == 0 {
		offered := tokens(h["Sec-Websocket-Protocol"])
		if len(offered) == 2 && offered[0] == subprotocol {
			token, ok = strings.CutPrefix(offered[1], bearerToken)
		}
	}
	if !ok {
		return nil, false
	}
	opening, err := decodeOpening(token)
	return opening, err == nil
}

var errOpening = errors.New("not an opening in base64url")

// decodeOpening refuses what encodeOpening would not have written.
func decodeOpening(s string) ([]byte, error) {
	if len(s) > base64url.EncodedLen(transport.MaxOpening) {
		return nil, transport.ErrOpeningTooLarge
	}
	opening, err := base64url.DecodeString(s)
	// The decoder skips line ends.
	if err != nil || base64url.EncodedLen(len(opening)) != len(s) {
		return nil, errOpening
	}
	return opening, nil
}

// tokens splits header values at their commas.
func tokens(values []string) []string {
	var all []string
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			all = append(all, strings.TrimSpace(t))
		}
	}
	return all
}

// isUpgrade reports whether r is what RFC 6455 §4.2.1 asks of a client. It is as
// strict as the library, which would answer a lesser one itself.
func isUpgrade(r *http.Request) bool {
	has := func(name, token string) bool {
		for _, t := range tokens(r.Header[name]) {
			if strings.EqualFold(t, token) {
				return true
			}
		}
		return false
	}
	key := r.Header["Sec-Websocket-Key"]
	if len(key) != 1 {
		return false
	}
	nonce, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key[0]))
	return err == nil && len(nonce) == 16 &&
		r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		has("Connection", "upgrade") && has("Upgrade", "websocket") &&
		r.Header.Get("Sec-Websocket-Version") == "13"
}

// hijacker looks for one beneath the wrappers that middlewares put around a
// ResponseWriter.
func hijacker(w http.ResponseWriter) (http.Hijacker, bool) {
	for {
		switch x := w.(type) {
		case http.Hijacker:
			return x, true
		case interface{ Unwrap() http.ResponseWriter }:
			w = x.Unwrap()
		default:
			return nil, false
		}
	}
}

// A hijackWriter puts a link between the WebSocket and what it hijacks.
type hijackWriter struct {
	http.ResponseWriter
	hijacker http.Hijacker
	link     link
	evicted  bool // the listener has closed it meanwhile
}

func (w *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := w.hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	rw, socket := io.ReadWriter(conn), conn
	if a, ok := conn.(*arrival); ok {
		var in bool
		rw, in = a.admitted()
		socket, w.evicted = a.socket, !in
	} else if tc, ok := conn.(*tls.Conn); ok {
		socket = tc.NetConn()
	}
	w.link = newLink(socket, rw, false)
	// The link puts messages together: the library's own buffer has to hold a
	// control frame only.
	return w.link, bufio.NewReadWriter(brw.Reader, bufio.NewWriterSize(w.link, 256)), nil
}
