package dht

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// A message is its length, 4 bytes big-endian, and CBOR in the core deterministic form of RFC 8949 §4.2.1: a query one
// way, an answer back.

const (
	// maxMessage bounds a message: an answer is cut to what fits.
	maxMessage = 64 << 10
	// maxQuery bounds a query, which has two records at most.
	maxQuery = 2*registry.MaxSize + 256
)

// An op says what is asked.
type op uint8

const (
	opPing  op = 1 // are you there?
	opFind  op = 2 // the record under the key, and the nodes that are closest to it
	opStore op = 3 // keep this record under the key
)

// A query is what one node asks of another.
type query struct {
	Op     op     `cbor:"1,keyasint"`
	Key    []byte `cbor:"2,keyasint,omitempty"` // 32 bytes, but for a ping
	Record []byte `cbor:"3,keyasint,omitempty"` // to be kept
	Self   []byte `cbor:"4,keyasint,omitempty"` // the asker's own record, if it answers queries itself
}

// A verdict is what became of a query.
type verdict uint8

const (
	vOK       verdict = 0
	vInvalid  verdict = 1 // the record, or the query, is not as it must be
	vRollback verdict = 2 // a newer one is here, and comes back
	vFar      verdict = 3 // others are closer
	vFull     verdict = 4
	vBusy     verdict = 5 // too many queries from there
)

// An answer is what comes back.
type answer struct {
	Verdict verdict  `cbor:"1,keyasint,omitempty"`
	Self    []byte   `cbor:"2,keyasint,omitempty"` // the answering node's own record
	Records [][]byte `cbor:"3,keyasint,omitempty"` // what is under the key
	Closer  [][]byte `cbor:"4,keyasint,omitempty"` // records of the nodes that are closest, the closest first
}

var errMessage = errors.New("not a message of the DHT")

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("dht: CBOR encoder: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxArrayElements:  max(kad.K, 16), // 16 is the least that it takes
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		panic("dht: CBOR decoder: " + err.Error())
	}
	return enc, dec
}

// decode fills m from b, which must be what encode would write of it.
func decode(b []byte, m any) error {
	if err := decMode.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	again, err := encMode.Marshal(m)
	if err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: not the deterministic encoding", errMessage)
	}
	return nil
}

// encode returns m with its length before it.
func encode(m any) ([]byte, error) {
	b, err := encMode.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...), nil
}

// read reads a message into m.
func read(r io.Reader, m any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	most := uint32(maxMessage)
	if _, ok := m.(*query); ok {
		most = maxQuery
	}
	if n > most {
		return fmt.Errorf("%w: %d bytes, and at most %d are allowed", errMessage, n, most)
	}
	var b bytes.Buffer // grows with what comes, not with what is announced
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return err
	}
	return decode(b.Bytes(), m)
}

// check says whether q is one that a node sends.
func (q *query) check() error {
	record := len(q.Record) > 0
	switch {
	case q.Op == opPing && len(q.Key) == 0 && !record:
	case q.Op == opFind && len(q.Key) == len(kad.Key{}) && !record:
	case q.Op == opStore && len(q.Key) == len(kad.Key{}) && record:
	default:
		return fmt.Errorf("%w: operation %d with a key of %d bytes and a record of %d", errMessage, q.Op, len(q.Key), len(q.Record))
	}
	return nil
}

// fit cuts an answer's lists to what a message holds: of the contacts the farthest go first.
func (a *answer) fit() {
	room := maxMessage - 64 - len(a.Self)
	cut := func(list [][]byte) [][]byte {
		for i, b := range list {
			if room -= len(b) + 4; room < 0 {
				return list[:i]
			}
		}
		return list
	}
	a.Records = cut(a.Records)
	a.Closer = cut(a.Closer)
}

// marshal is for the lists of an answer.
func marshal(records []*registry.Record) (out [][]byte) {
	for _, r := range records {
		out = append(out, r.Marshal())
	}
	return out
}
