package frame

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Bounds of the length field of a compact frame: at least one byte is carried.
const (
	minBody = 1 + TagSize
	maxBody = MaxPlaintext + TagSize
)

// Peek is how many bytes of a compact frame [Opener.Size] needs to see. Every
// compact frame is longer.
const Peek = HeaderSize + sampleSize

// noCopy lets go vet find copies: two copies of a Sealer would use nonces twice.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// A Sealer seals the frames of one direction of one path, in order. It is not
// for concurrent use, and must not be copied.
type Sealer struct {
	_     noCopy
	suite Suite
	key   epochKey
	mask  mask
	next  uint64   // number of the next frame, counted over all epochs
	nonce [12]byte // of the frame at hand; here so that it is not allocated
}

// NewSealer returns a Sealer whose first frame has the number 0. The secret must
// be of this direction of this path alone: a second Sealer with the same secret
// would use the same nonces. The key that masks headers is derived from this
// secret too and stays for the life of the path.
func NewSealer(s Suite, secret *[32]byte, epoch uint32) (*Sealer, error) {
	key, err := newEpochKey("seal", s, secret, epoch)
	if err != nil {
		return nil, err
	}
	m, err := newMask(s, secret)
	if err != nil {
		return nil, err
	}
	return &Sealer{suite: s, key: key, mask: m}, nil
}

// Rekey makes the next frame the first of the next epoch, sealed with the key of
// the new secret. The epoch must be one more than the present one, else the
// Sealer stays as it was and the error is ErrEpoch. Numbers of frames go on.
func (s *Sealer) Rekey(secret *[32]byte, epoch uint32) error {
	key, err := nextKey(s.suite, &s.key, secret, epoch)
	if err == nil {
		s.key = key
	}
	return err
}

// NextPacket returns the number of the frame that the next Seal makes.
func (s *Sealer) NextPacket() uint64 { return s.next }

// Seal appends to dst one frame that carries plaintext, of 1 to MaxPlaintext
// bytes. The frame is HeaderSize + len(plaintext) + TagSize bytes long.
//
// The plaintext may lie where its ciphertext goes: begin at dst[len(dst)+8] of
// the same array, as when it was built in place behind room for the header.
// With a capacity of TagSize bytes behind it nothing is copied nor allocated.
// It must not overlap with what is appended in any other way.
//
// On an error, ErrLength or ErrExhausted, dst is returned as it was and the
// Sealer is as before the call.
func (s *Sealer) Seal(dst, plaintext []byte) ([]byte, error) {
	if err := checkLength("seal", len(plaintext), 1, MaxPlaintext); err != nil {
		return dst, err
	}
	if s.key.left == 0 {
		return dst, &Error{"seal", "frames", maxFrames + 1, maxFrames, ErrExhausted}
	}
	h := newHeader(TypeData, uint8(s.key.epoch), len(plaintext)+TagSize, uint32(s.next))

	n := len(dst)
	dst = slices.Grow(dst, HeaderSize+h.length())[:n+HeaderSize+h.length()]
	frame := dst[n:]
	binary.BigEndian.PutUint64(frame, uint64(h))
	binary.BigEndian.PutUint64(s.nonce[4:], s.next)
	s.key.aead.Seal(frame[:HeaderSize], s.nonce[:], plaintext, frame[:HeaderSize])
	binary.BigEndian.PutUint64(frame, uint64(h^s.mask.bits(frame[HeaderSize:])))
	s.next++
	s.key.left--
	return dst, nil
}

// Format writes which frames s seals, and no key, whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "frame.Sealer(%v, epoch %d, next %d)", s.suite, s.key.epoch, s.next)
}

// An Opener opens the frames of one direction of one path, in order. After an
// error the path can't be trusted any more: every later Size and Open returns
// the same error. It is not for concurrent use, and must not be copied.
type Opener struct {
	_       noCopy
	suite   Suite
	key     epochKey
	coming  epochKey // of the next epoch; its aead is nil until Next
	mask    mask
	next    uint64 // number of the next frame, counted over all epochs
	nonce   [12]byte
	peeked  [Peek]byte // what Size saw last, and …
	header  header     // … the header that it found; 0 when none
	failure error
}

// NewOpener returns the Opener of what a [Sealer] with the same arguments seals.
func NewOpener(s Suite, secret *[32]byte, epoch uint32) (*Opener, error) {
	key, err := newEpochKey("open", s, secret, epoch)
	if err != nil {
		return nil, err
	}
	m, err := newMask(s, secret)
	if err != nil {
		return nil, err
	}
	return &Opener{suite: s, key: key, mask: m}, nil
}

// Next gives the Opener the secret of the next epoch, which must be one more
// than that of the last frame opened. From now on the next frame may be of
// either epoch; the first that opens in the new one ends the old, whose key is
// forgotten. Until then another Next is refused: so on each path at least one
// frame is to be sent in each epoch. A refusal is ErrEpoch and changes nothing.
func (o *Opener) Next(secret *[32]byte, epoch uint32) error {
	if o.failure != nil {
		return o.failure
	}
	if o.coming.aead != nil {
		return &Error{"rekey", "epoch", uint64(epoch), uint64(o.coming.epoch), ErrEpoch}
	}
	key, err := nextKey(o.suite, &o.key, secret, epoch)
	if err == nil {
		o.coming = key
	}
	return err
}

// Packet returns the number of the frame that was opened last. It means nothing
// before the first.
func (o *Opener) Packet() uint64 { return o.next - 1 }

// Epoch returns the epoch of the frame that was opened last, and before the first
// that in which the path began.
func (o *Opener) Epoch() uint32 { return o.key.epoch }

// Size returns how many bytes long the next frame is, header and tag included,
// given exactly its first Peek bytes as they came. It checks all that these can
// tell: version, type, epoch, sequence and the bounds of the length. They are
// not authenticated before Open, so a Size is a bound and no promise.
func (o *Opener) Size(peek []byte) (int, error) {
	if o.failure != nil {
		return 0, o.failure
	}
	if err := checkLength("open", len(peek), Peek, Peek); err != nil {
		return 0, o.fail(err)
	}
	h, err := o.parse(peek)
	if err != nil {
		return 0, o.fail(err)
	}
	return HeaderSize + h.length(), nil
}

// Open opens b, exactly one frame, in place and returns its plaintext, which
// aliases b. What b holds after an error is undefined.
func (o *Opener) Open(b []byte) ([]byte, error) {
	if o.failure != nil {
		return nil, o.failure
	}
	plaintext, err := o.open(b)
	if err != nil {
		return nil, o.fail(err)
	}
	return plaintext, nil
}

func (o *Opener) open(b []byte) ([]byte, error) {
	if err := checkLength("open", len(b), HeaderSize+minBody, HeaderSize+maxBody); err != nil {
		return nil, err
	}
	h, err := o.parse(b[:Peek])
	if err != nil {
		return nil, err
	}
	if want := HeaderSize + h.length(); len(b) != want {
		return nil, &Error{"open", "length", uint64(len(b)), uint64(want), ErrLength}
	}
	key := o.keyFor(h)
	binary.BigEndian.PutUint64(b, uint64(h))
	binary.BigEndian.PutUint64(o.nonce[4:], o.next)
	plaintext, err := key.aead.Open(b[HeaderSize:HeaderSize], o.nonce[:], b[HeaderSize:], b[:HeaderSize])
	if err != nil {
		return nil, &Error{Op: "open", Field: "tag", Err: ErrAuth}
	}
	key.left--
	o.next++
	if key == &o.coming {
		o.key, o.coming = o.coming, epochKey{}
	}
	o.header = 0
	return plaintext, nil
}

// parse unmasks the header of the next frame, given its first Peek bytes, and
// checks each field. Open after Size finds the header already unmasked.
func (o *Opener) parse(peek []byte) (header, error) {
	if o.header != 0 && o.peeked == [Peek]byte(peek) {
		return o.header, nil
	}
	h := header(binary.BigEndian.Uint64(peek)) ^ o.mask.bits(peek[HeaderSize:])
	if h.version() != Version {
		return 0, &Error{"open", "version", uint64(h.version()), Version, ErrVersion}
	}
	if h.typ() != TypeData {
		return 0, &Error{"open", "type", uint64(h.typ()), TypeData, ErrType}
	}
	key := o.keyFor(h)
	if key == nil {
		return 0, &Error{"open", "epoch", uint64(h.flags()), uint64(uint8(o.key.epoch)), ErrEpoch}
	}
	if h.seq() != uint32(o.next) {
		return 0, &Error{"open", "sequence", uint64(h.seq()), uint64(uint32(o.next)), ErrSequence}
	}
	if err := checkLength("open", h.length(), minBody, maxBody); err != nil {
		return 0, err
	}
	if key.left == 0 {
		return 0, &Error{"open", "frames", maxFrames + 1, maxFrames, ErrExhausted}
	}
	copy(o.peeked[:], peek)
	o.header = h
	return h, nil
}

// keyFor returns the key of the epoch that h names, nil if there is none.
func (o *Opener) keyFor(h header) *epochKey {
	switch {
	case h.flags() == uint8(o.key.epoch):
		return &o.key
	case o.coming.aead != nil && h.flags() == uint8(o.coming.epoch):
		return &o.coming
	}
	return nil
}

// fail kills o and forgets its keys.
func (o *Opener) fail(err error) error {
	o.failure = err
	o.key.aead, o.coming.aead, o.mask = nil, nil, mask{}
	return err
}

// Format writes which frames o opens, and no key, whatever the verb.
func (o *Opener) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "frame.Opener(%v, epoch %d, next %d)", o.suite, o.key.epoch, o.next)
}

// nextKey makes the key that follows old.
func nextKey(s Suite, old *epochKey, secret *[32]byte, epoch uint32) (epochKey, error) {
	if old.epoch == math.MaxUint32 || epoch != old.epoch+1 {
		return epochKey{}, &Error{"rekey", "epoch", uint64(epoch), uint64(old.epoch) + 1, ErrEpoch}
	}
	return newEpochKey("rekey", s, secret, epoch)
}
