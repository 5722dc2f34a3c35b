package registry

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
)

// The encoding is CBOR in the core deterministic form of RFC 8949 §4.2.1: an array of two byte strings,
//
//	[payload, signature]
//
// where the payload is again CBOR of that form, the map below, and the signature that of [identity.Key.Sign] over the
// payload's bytes for the purpose "record". A field that is empty or false is left out of the map.

type wireEnvelope struct {
	_         struct{} `cbor:",toarray"`
	Payload   []byte
	Signature []byte
}

type wirePayload struct {
	ID           []byte   `cbor:"1,keyasint"`           // 32 bytes
	Sequence     int64    `cbor:"2,keyasint"`           // Unix milliseconds
	Expires      int64    `cbor:"3,keyasint"`           // Unix milliseconds
	Addrs        [][]byte `cbor:"4,keyasint,omitempty"` // multiaddrs in their binary form
	Capabilities []string `cbor:"5,keyasint,omitempty"`
	Operator     string   `cbor:"6,keyasint,omitempty"`
	Revoked      bool     `cbor:"7,keyasint,omitempty"`
	Network      string   `cbor:"8,keyasint,omitempty"`
	Name         string   `cbor:"9,keyasint,omitempty"`
}

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("registry: CBOR encoder: " + err.Error())
	}
	// Doubled keys, endless lengths and whatever else is a second spelling go through here, and fail when parse encodes
	// the record again. MaxSize bounds the rest.
	dec, err := cbor.DecOptions{
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxArrayElements:  max(MaxAddrs, MaxCapabilities),
	}.DecMode()
	if err != nil {
		panic("registry: CBOR decoder: " + err.Error())
	}
	return enc, dec
}

// mustEncode encodes a wire type, for which the encoder has no reason to fail.
func mustEncode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic("registry: encoding a record: " + err.Error())
	}
	return b
}

func encodeEnvelope(payload, signature []byte) []byte {
	return mustEncode(wireEnvelope{Payload: payload, Signature: signature})
}

func (r *Record) encodePayload() []byte {
	addrs := make([][]byte, len(r.Addrs))
	for i, a := range r.Addrs {
		addrs[i] = a.Bytes()
	}
	return mustEncode(wirePayload{r.ID[:], r.Sequence, r.Expires, addrs, r.Capabilities, r.Operator, r.Revoked, r.Network, r.Name})
}

// Parse decodes a record of at most [MaxSize] bytes and checks everything about it that does not depend on the time, for
// which there is [Record.Check]. It does not keep b.
//
// Its errors are [*RecordError] and wrap [ErrTooLarge]; [ErrBadSignature]; or [ErrMalformed], for whatever
// [Record.Sign] would not have written, a second encoding of the same record included.
func Parse(b []byte) (*Record, error) {
	r, field, err := parse(b)
	if err != nil {
		return nil, &RecordError{"parse", r.ID, field, err}
	}
	return r, nil
}

// parse returns a record even with an error, for its ID. The ID is set once it is known to be one.
func parse(b []byte) (r *Record, field string, err error) {
	r = new(Record)
	if len(b) > MaxSize {
		return r, "", tooLarge(len(b))
	}
	var envelope wireEnvelope
	if err := decMode.Unmarshal(b, &envelope); err != nil {
		return r, "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var p wirePayload
	if err := decMode.Unmarshal(envelope.Payload, &p); err != nil {
		return r, "payload", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	id, err := identity.NewID(p.ID)
	if err != nil {
		return r, "id", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.ID = id
	if !id.Verify(purpose, envelope.Payload, envelope.Signature) {
		return r, "signature", ErrBadSignature
	}

	*r = Record{
		ID: id, Sequence: p.Sequence, Expires: p.Expires, Capabilities: p.Capabilities,
		Operator: p.Operator, Network: p.Network, Name: p.Name, Revoked: p.Revoked,
	}
	for i, a := range p.Addrs {
		addr, err := multiaddr.NewMultiaddrBytes(a)
		if err != nil {
			return r, fmt.Sprintf("addrs[%d]", i), fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		r.Addrs = append(r.Addrs, addr)
	}
	if field, err := r.validate(); err != nil {
		return r, field, err
	}
	// What is left to refuse are second spellings, of CBOR and of multiaddrs.
	r.signature = envelope.Signature
	r.encoded = encodeEnvelope(r.encodePayload(), r.signature)
	if !bytes.Equal(r.encoded, b) {
		return r, "", fmt.Errorf("%w: not the deterministic encoding", ErrMalformed)
	}
	return r, "", nil
}
