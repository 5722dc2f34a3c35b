//go:build !js

package websocket

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it, and not for security
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/splitmesh/splitmesh/transport"
)

// What an answer may be: its header's bytes, and how many of the kind 1xx precede it.
const (
	maxAnswer  = 64 << 10
	maxInterim = 5
)

// upgrade sends req over conn, and returns what came after the answer when that
// makes a WebSocket of conn.
func upgrade(conn net.Conn, req *http.Request) (early []byte, err error) {
	key := askUpgrade(req.Header)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	answer := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(answer, req)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("the connection ended in the midst of an answer, or its header is over %d bytes: %w", maxAnswer, err)
		case err != nil:
			return nil, fmt.Errorf("its answer to the upgrade: %w", err)
		case resp.StatusCode == http.StatusSwitchingProtocols:
			if err := checkUpgrade(resp.Header, key); err != nil {
				return nil, err
			}
			return answer.Peek(answer.Buffered())
		case resp.StatusCode >= 200:
			return nil, fmt.Errorf("%w: the answer was %d %s", transport.ErrRefused, resp.StatusCode, http.StatusText(resp.StatusCode))
		}
	}
	return nil, fmt.Errorf("%d answers of the kind 1xx came, and no other", maxInterim+1)
}

// newKey is a Sec-WebSocket-Key, RFC 6455 §4.1.
func newKey() string {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(nonce)
}

// isKey reports whether newKey could have returned key.
func isKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16
}

// accept is the Sec-WebSocket-Accept that answers key, RFC 6455 §4.2.2.
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // likewise
	return base64.StdEncoding.EncodeToString(sum[:])
}

// askUpgrade makes of header that of an upgrade request, and returns its key. What
// the caller of Dial wants to negotiate is not for us to promise.
func askUpgrade(header http.Header) (key string) {
	key = newKey()
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", "websocket")
	header.Set("Sec-WebSocket-Version", "13")
	header.Set("Sec-WebSocket-Key", key)
	header.Del("Sec-WebSocket-Extensions")
	header.Del("Sec-WebSocket-Protocol")
	return key
}

// checkUpgrade is what RFC 6455 §4.1 asks of a client when the answer is 101.
func checkUpgrade(header http.Header, key string) error {
	var wrong string
	switch {
	case !hasToken(header, "Connection", "upgrade"):
		wrong = "Connection"
	case !hasToken(header, "Upgrade", "websocket"):
		wrong = "Upgrade"
	case len(header["Sec-Websocket-Accept"]) != 1 || header.Get("Sec-WebSocket-Accept") != accept(key):
		wrong = "Sec-WebSocket-Accept"
	case len(header["Sec-Websocket-Extensions"]) > 0: // none was offered
		wrong = "Sec-WebSocket-Extensions"
	case len(header["Sec-Websocket-Protocol"]) > 0: // nor was any of these
		wrong = "Sec-WebSocket-Protocol"
	default:
		return nil
	}
	return fmt.Errorf("what answers speaks another protocol: %s is %.100q in its answer 101", wrong, header.Values(wrong))
}

// isUpgrade reports whether r is what RFC 6455 §4.2.1 asks of a client.
func isUpgrade(r *http.Request) bool {
	key := r.Header["Sec-Websocket-Key"]
	return len(key) == 1 && isKey(strings.TrimSpace(key[0])) &&
		r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == "13"
}

// answerUpgrade makes of header that of the answer to r, which isUpgrade.
func answerUpgrade(header http.Header, r *http.Request) {
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", "websocket")
	header.Set("Sec-WebSocket-Accept", accept(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key"))))
	if hasToken(r.Header, "Sec-Websocket-Protocol", subprotocol) {
		header.Set("Sec-WebSocket-Protocol", subprotocol)
	}
}

// hasToken reports whether token is in the list that is the named header.
func hasToken(h http.Header, name, token string) bool {
	for _, t := range tokens(h[name]) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
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
