//go:build !js

package websocket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

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
	answerUpgrade(w.Header(), r)
	w.WriteHeader(http.StatusSwitchingProtocols)
	if gin, ok := w.(interface{ WriteHeaderNow() }); ok { // it would wait for a body
		gin.WriteHeaderNow()
	}
	socket, brw, err := hj.Hijack() // the answer is on its way
	if err != nil {
		return nil
	}
	rw, evicted := io.ReadWriter(socket), false
	if a, ok := socket.(*arrival); ok {
		var in bool
		rw, in = a.admitted()
		socket, evicted = a.socket, !in
	} else if tc, ok := socket.(*tls.Conn); ok {
		socket = tc.NetConn()
	}
	// Of the server's buffers we keep what came after the request, not the memory.
	early, err := brw.Reader.Peek(brw.Reader.Buffered())
	if evicted || err != nil || len(early) > maxPiece {
		socket.Close()
		return nil
	}
	return newConn(newLink(socket, rw, early, false), orDefault(h.transport.PingInterval, DefaultPingInterval))
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
