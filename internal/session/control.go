package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/splitter"
)

// Messages of the control lane: type 8, length 16, body (docs/SPEC.md, "The
// control lane"). They are reliable and ordered like any lane's bytes.
const (
	msgAbandon = 2 // path 32
	msgClose   = 3 // code 16, text
	msgPolicy  = 4 // lane 8, class 8, purpose 8, k 8, n 8, minimum of paths 8, largest share in ten-thousandths 16
	msgWish    = 6 // for new keys, from who did not dial the session
	msgPropose = 7 // new keys; see rekey
	msgAccept  = 8 // likewise
)

const (
	msgHeader    = 3
	policySize   = 8
	maxCloseText = 256
	maxMessage   = msgHeader + rekey.MaxProposeSize
)

func appendMessage(b []byte, kind byte, body []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func appendAbandon(b []byte, path uint32) []byte {
	return appendMessage(b, msgAbandon, binary.BigEndian.AppendUint32(nil, path))
}

func appendClose(b []byte, code Code, text string) []byte {
	text = strings.ToValidUTF8(text[:min(len(text), maxCloseText)], "")
	return appendMessage(b, msgClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...))
}

func appendPolicy(b []byte, lane byte, class splitter.Class, p splitter.Policy) []byte {
	body := []byte{lane, byte(class), byte(p.Purpose), byte(p.K), byte(p.N), byte(p.MinPaths)}
	return appendMessage(b, msgPolicy, binary.BigEndian.AppendUint16(body, uint16(math.Ceil(p.MaxShare*shareUnit-1e-6))))
}

// shareUnit is what a share of 1 is on the wire.
const shareUnit = 10_000

// A control message, decoded. Exactly one field but kind is meaningful.
type message struct {
	kind   byte
	path   uint32
	code   Code
	text   string
	lane   byte
	class  splitter.Class
	policy splitter.Policy
	body   []byte // of a message about keys
}

// parseMessage reads the first message of p. It returns its size, or 0 when more
// bytes are needed.
func parseMessage(p []byte) (m message, size int, err error) {
	if len(p) < msgHeader {
		return m, 0, nil
	}
	m.kind = p[0]
	n := int(binary.BigEndian.Uint16(p[1:]))
	bad := func() (message, int, error) {
		return m, 0, violation("control message of type %d with %d bytes", m.kind, n)
	}
	switch {
	case m.kind == msgAbandon && n == 4:
	case m.kind == msgClose && n >= 2 && n <= 2+maxCloseText:
	case m.kind == msgPolicy && n == policySize:
	case m.kind == msgWish && n == 0:
	case m.kind == msgPropose && n >= rekey.MinProposeSize && n <= rekey.MaxProposeSize:
	case m.kind == msgAccept && n >= rekey.MinAcceptSize && n <= rekey.MaxAcceptSize:
	default:
		return bad()
	}
	if len(p) < msgHeader+n {
		return m, 0, nil
	}
	body := p[msgHeader : msgHeader+n]
	switch m.kind {
	case msgAbandon:
		m.path = binary.BigEndian.Uint32(body)
	case msgClose:
		m.code, m.text = Code(binary.BigEndian.Uint16(body)), string(body[2:])
		if !utf8.ValidString(m.text) {
			return bad()
		}
	case msgPropose, msgAccept:
		m.body = bytes.Clone(body)
	case msgPolicy:
		if err := m.parsePolicy(body); err != nil {
			return m, 0, err
		}
	}
	return m, msgHeader + n, nil
}

// parsePolicy reads the body of a policy message, and takes nothing for a default.
func (m *message) parsePolicy(body []byte) (err error) {
	m.lane, m.class = body[0], splitter.Class(body[1])
	sent := splitter.Policy{
		Purpose: splitter.Purpose(body[2]), K: int(body[3]), N: int(body[4]), MinPaths: int(body[5]),
		MaxShare: float64(binary.BigEndian.Uint16(body[6:])) / shareUnit,
	}
	if m.policy, err = sent.WithDefaults(false); err != nil {
		return &ProtocolError{"split policy", err}
	}
	if class, err := m.class.WithDefaults(); err != nil || class != m.class || m.policy != sent {
		return violation("policy of lane %d, class %d, leaves something out", body[0], body[1])
	}
	return nil
}

// A controlReader collects the control lane's bytes into messages.
type controlReader struct{ partial []byte }

// Input takes in-order bytes and calls handle with each whole message.
func (c *controlReader) Input(p []byte, handle func(message) error) error {
	c.partial = append(c.partial, p...)
	for {
		m, n, err := parseMessage(c.partial)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil // the rest is shorter than maxMessage
		}
		c.partial = c.partial[:copy(c.partial, c.partial[n:])]
		if err := handle(m); err != nil {
			return err
		}
	}
}

// A Code says why a session was closed.
type Code uint16

// Codes of a close message.
const (
	CodeNormal   Code = 0 // the node or the session was closed in order
	CodeProtocol Code = 1 // the peer broke the protocol
	CodeReplaced Code = 2 // the peer came back with a new instance
	CodeRefused  Code = 3 // the peer may not, or no longer, talk to this node
)

func (c Code) String() string {
	switch c {
	case CodeNormal:
		return "closed"
	case CodeProtocol:
		return "protocol error"
	case CodeReplaced:
		return "replaced by a new instance"
	case CodeRefused:
		return "refused"
	}
	return fmt.Sprintf("code %d", uint16(c))
}
