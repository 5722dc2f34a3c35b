package mesh

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/splitter"
)

// Each stream begins with a request, which the other end answers before any
// data flows back (docs/SPEC.md, "Opening a stream"):
//
//	request: version 8 (1), service length 8, service, body length 16, body
//	answer:  status 8, body length 16, body
const (
	openVersion   = 1
	maxOpenBody   = 32 + 4096 // an ID and an opening
	maxAnswerBody = 512
)

// Status of an answer.
const (
	statusOK          = 0 // body: none; or, to C, the bytes that the circuit may carry, 64; or, to O, IP address, bits 8
	statusNoService   = 1
	statusRefused     = 2
	statusBusy        = 3
	statusLimit       = 4 // body: value 64, limit's name
	statusNotReserved = 5
	statusPurpose     = 6 // body: the only purpose that the peer accepts, 8
	statusLeaving     = 7
)

// Services of the mesh itself; the name can't be one of an application's, which
// have no upper-case letters.
const (
	serviceReserve = "R" // reserve, for as long as the session lives
	serviceConnect = "C" // to a relay: target 32, opening
	serviceCircuit = "T" // from a relay: source 32, opening
	serviceDrain   = "D" // from a relay: it is going away
	serviceObserve = "O" // up to 4 addresses of listeners, each with its length 16
)

type openRequest struct {
	service string
	body    []byte
}

func appendRequest(b []byte, r openRequest) []byte {
	b = append(b, openVersion, byte(len(r.service)))
	b = append(b, r.service...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.body)))
	return append(b, r.body...)
}

// A FormatError reports a malformed request or answer at the head of a stream.
type FormatError struct{ What string }

func (e *FormatError) Error() string { return "malformed stream opening: " + e.What }

func readRequest(r io.Reader) (q openRequest, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return q, err
	}
	if head[0] != openVersion {
		return q, &FormatError{fmt.Sprintf("version %d, want %d", head[0], openVersion)}
	}
	if head[1] == 0 || head[1] > MaxServiceName {
		return q, &FormatError{fmt.Sprintf("service name of %d bytes", head[1])}
	}
	name := make([]byte, int(head[1])+2)
	if _, err := io.ReadFull(r, name); err != nil {
		return q, err
	}
	q.service = string(name[:head[1]])
	n := int(binary.BigEndian.Uint16(name[head[1]:]))
	switch q.service {
	case serviceConnect, serviceCircuit:
		if n < len(identity.ID{}) || n > maxOpenBody {
			return q, &FormatError{fmt.Sprintf("request %q of %d bytes", q.service, n)}
		}
	case serviceObserve:
		if n > maxObserveBody {
			return q, &FormatError{fmt.Sprintf("request %q of %d bytes", q.service, n)}
		}
	case serviceReserve, serviceDrain:
		if n != 0 {
			return q, &FormatError{fmt.Sprintf("request %q of %d bytes", q.service, n)}
		}
	default:
		if err := checkService(q.service); err != nil {
			return q, &FormatError{err.Error()}
		}
		if n != 0 {
			return q, &FormatError{fmt.Sprintf("request for service %q with a body of %d bytes", q.service, n)}
		}
	}
	q.body = make([]byte, n)
	_, err = io.ReadFull(r, q.body)
	return q, err
}

type openAnswer struct {
	status byte
	body   []byte
}

func appendAnswer(b []byte, a openAnswer) []byte {
	body := a.body[:min(len(a.body), maxAnswerBody)]
	b = append(b, a.status)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func readAnswer(r io.Reader) (a openAnswer, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return a, err
	}
	a.status = head[0]
	n := int(binary.BigEndian.Uint16(head[1:]))
	bad := &FormatError{fmt.Sprintf("answer of status %d with %d bytes", a.status, n)}
	switch {
	case a.status > statusLeaving, n > maxAnswerBody, a.status == statusOK && !okSizes[n], a.status == statusLimit && n < 9,
		a.status == statusPurpose && n != 1:
		return a, bad
	}
	a.body = make([]byte, n)
	if _, err = io.ReadFull(r, a.body); err != nil {
		return a, err
	}
	if a.status == statusLimit && !limitNames[string(a.body[8:])] || a.status == statusPurpose && !splitter.Purpose(a.body[0]).Private() {
		return a, bad
	}
	return a, nil
}

// okSizes are those of the body of a consent.
var okSizes = map[int]bool{0: true, 8: true, 4 + 1: true, 16 + 1: true}

// wrongPurpose is the answer to a conn whose bytes are divided for another purpose
// than the private one that own demands of all; nil when there is nothing to object to.
func wrongPurpose(own, conn splitter.Policy) *openAnswer {
	if !own.Purpose.Private() || conn.Purpose == own.Purpose {
		return nil
	}
	return &openAnswer{statusPurpose, []byte{byte(own.Purpose)}}
}

// limitNames are the limits that an answer may name: fields of RelayConfig.
var limitNames = map[string]bool{"MaxReservations": true, "MaxCircuits": true, "MaxCircuitsPerPeer": true, "MaxCircuitsPerNetwork": true}

func limitAnswer(name string, value uint64) openAnswer {
	return openAnswer{statusLimit, append(binary.BigEndian.AppendUint64(nil, value), name...)}
}

// err is what an answer of peer's means, nil for statusOK.
func (a openAnswer) err(peer identity.ID) error {
	var base error
	switch a.status {
	case statusOK:
		return nil
	case statusNoService:
		base = ErrNoService
	case statusBusy:
		base = ErrBusy
	case statusLeaving:
		base = ErrRelayLeaving
	case statusNotReserved:
		base = ErrNotReserved
	case statusLimit:
		return &LimitError{Relay: peer, Limit: string(a.body[8:]), Value: binary.BigEndian.Uint64(a.body)}
	case statusPurpose:
		return &PurposeError{Peer: peer, Want: splitter.Purpose(a.body[0])}
	default:
		base = ErrRefused
	}
	if len(a.body) > 0 {
		return fmt.Errorf("%w: %.200q", base, a.body)
	}
	return base
}
