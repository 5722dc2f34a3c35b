package frame

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// Full is the header of a frame in the full form, without version and length.
type Full struct {
	Type    uint8 // TypeHandshake or TypeData
	Flags   uint8
	Seq     uint32
	PeerKey [32]byte
	Nonce   [24]byte // fresh random bytes for each frame
}

// SealFull appends to dst one frame of the full form that carries plaintext, at
// most MaxPlaintext bytes. The frame is FullHeaderSize + len(plaintext) +
// TagSize bytes long. It is the caller who fills h.Nonce, with random bytes that
// are never used twice with the same key. On an error dst is returned as it was.
func SealFull(dst []byte, key *[32]byte, h *Full, plaintext []byte) ([]byte, error) {
	if err := checkFullType("seal", h.Type); err != nil {
		return dst, err
	}
	if err := checkLength("seal", len(plaintext), 0, MaxPlaintext); err != nil {
		return dst, err
	}
	length := len(plaintext) + TagSize
	n := len(dst)
	dst = slices.Grow(dst, FullHeaderSize+length)
	dst = binary.BigEndian.AppendUint64(dst, uint64(newHeader(h.Type, h.Flags, length, h.Seq)))
	dst = append(dst, h.PeerKey[:]...)
	dst = append(dst, h.Nonce[:]...)
	return newX(key).Seal(dst, h.Nonce[:], plaintext, dst[n:]), nil
}

// OpenFull opens b, which must be exactly one frame of the full form, and
// returns its header and its plaintext in memory of its own: b is neither
// changed nor kept, so that it can be tried with several keys.
func OpenFull(key *[32]byte, b []byte) (Full, []byte, error) {
	if err := checkLength("open", len(b), FullHeaderSize+TagSize, FullHeaderSize+TagSize+MaxPlaintext); err != nil {
		return Full{}, nil, err
	}
	h := header(binary.BigEndian.Uint64(b))
	if err := checkFull("open", h); err != nil {
		return Full{}, nil, err
	}
	if want := FullHeaderSize + h.length(); len(b) != want {
		return Full{}, nil, &Error{"open", "length", uint64(len(b)), uint64(want), ErrLength}
	}
	f := Full{Type: h.typ(), Flags: h.flags(), Seq: h.seq()}
	copy(f.PeerKey[:], b[HeaderSize:])
	copy(f.Nonce[:], b[HeaderSize+len(f.PeerKey):])
	plaintext, err := newX(key).Open(nil, f.Nonce[:], b[FullHeaderSize:], b[:FullHeaderSize])
	if err != nil {
		return Full{}, nil, &Error{Op: "open", Field: "tag", Err: ErrAuth}
	}
	return f, plaintext, nil
}

// ReadFull reads exactly one frame of the full form from r and not a byte more.
// It looks at version, type and length before it allocates anything for the
// frame, which may be at most limit bytes long in all. The error is [io.EOF] when
// r ended before the first byte and wraps [io.ErrUnexpectedEOF] when r ended
// within the frame.
func ReadFull(r io.Reader, limit int) ([]byte, error) {
	var first [HeaderSize]byte
	if _, err := io.ReadFull(r, first[:]); err == io.EOF {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("frame: read header: %w", err)
	}
	h := header(binary.BigEndian.Uint64(first[:]))
	if err := checkFull("read", h); err != nil {
		return nil, err
	}
	size := FullHeaderSize + h.length()
	if err := checkLength("read", size, 0, limit); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	copy(b, first[:])
	if _, err := io.ReadFull(r, b[HeaderSize:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("frame: read %d bytes: %w", size, err)
	}
	return b, nil
}

// checkFull checks what the first eight bytes alone can tell of the full form.
func checkFull(op string, h header) error {
	if h.version() != Version {
		return &Error{op, "version", uint64(h.version()), Version, ErrVersion}
	}
	if err := checkFullType(op, h.typ()); err != nil {
		return err
	}
	return checkLength(op, h.length(), TagSize, MaxPlaintext+TagSize)
}

func checkFullType(op string, typ uint8) error {
	if typ != TypeHandshake && typ != TypeData {
		return &Error{op, "type", uint64(typ), TypeHandshake, ErrType}
	}
	return nil
}

// newX returns the full form's cipher. A key of the right size can't fail.
func newX(key *[32]byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("frame: " + err.Error())
	}
	return aead
}
