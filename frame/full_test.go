package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	fullKey = [32]byte{1, 2, 3}
	full    = Full{Type: TypeHandshake, Flags: 7, Seq: 9, PeerKey: [32]byte{4}, Nonce: [24]byte{5}}
)

func sealFull(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	b, err := SealFull(nil, &fullKey, &full, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFullRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 100, MaxPlaintext} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		b, err := SealFull([]byte("before"), &fullKey, &full, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("before")) || len(b) != 6+FullHeaderSize+n+TagSize {
			t.Fatalf("%d bytes sealed to %d: %x…", n, len(b), b[:10])
		}
		sent := bytes.Clone(b[6:])
		read, err := ReadFull(iotest.OneByteReader(bytes.NewReader(b[6:])), len(sent))
		if err != nil || !bytes.Equal(read, sent) {
			t.Fatalf("%d bytes: ReadFull: %v", n, err)
		}
		h, got, err := OpenFull(&fullKey, read)
		if err != nil || h != full || !bytes.Equal(got, plaintext) {
			t.Fatalf("%d bytes: OpenFull: %+v, %v", n, h, err)
		}
		if !bytes.Equal(read, sent) {
			t.Errorf("%d bytes: OpenFull changed its input", n)
		}
	}
}

// Every bit of the frame is authenticated, the 64 bytes of its header included.
func TestFullFlips(t *testing.T) {
	good := sealFull(t, []byte("plaintext"))
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		var e *Error
		if _, p, err := OpenFull(&fullKey, b); !errors.As(err, &e) || p != nil {
			t.Fatalf("bit %d flipped: plaintext %x, error %v", i, p, err)
		} else if i >= 8*HeaderSize && !errors.Is(err, ErrAuth) {
			t.Errorf("bit %d flipped: %v, want ErrAuth", i, err)
		}
	}
	other := fullKey
	other[31] ^= 1
	if _, _, err := OpenFull(&other, good); !errors.Is(err, ErrAuth) {
		t.Errorf("another key: %v, want ErrAuth", err)
	}
}

func TestFullRefusals(t *testing.T) {
	good := sealFull(t, []byte("plaintext"))
	put := func(h header) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint64(b, uint64(h))
		return b
	}
	n := len(good) - FullHeaderSize
	tests := []struct {
		name  string
		b     []byte
		want  error
		field string
	}{
		{"version 0", put(newHeader(TypeHandshake, 7, n, 9) ^ 1<<60), ErrVersion, "version"},
		{"version 2", put(newHeader(TypeHandshake, 7, n, 9) ^ 3<<60), ErrVersion, "version"},
		{"type 0", put(newHeader(0, 7, n, 9)), ErrType, "type"},
		{"type 15", put(newHeader(15, 7, n, 9)), ErrType, "type"},
		{"no room for the tag", put(newHeader(TypeHandshake, 7, TagSize-1, 9)), ErrLength, "length"},
		{"longer than the frame", put(newHeader(TypeHandshake, 7, n+1, 9)), ErrLength, "length"},
		{"shorter than the frame", put(newHeader(TypeHandshake, 7, n-1, 9)), ErrLength, "length"},
		{"nothing", nil, ErrLength, "length"},
		{"header only", good[:FullHeaderSize], ErrLength, "length"},
		{"a byte short", good[:len(good)-1], ErrLength, "length"},
		{"a byte long", append(bytes.Clone(good), 0), ErrLength, "length"},
		{"too long", make([]byte, FullHeaderSize+1<<16), ErrLength, "length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := OpenFull(&fullKey, tt.b)
			var e *Error
			if !errors.Is(err, tt.want) || !errors.As(err, &e) || e.Op != "open" || e.Field != tt.field {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if b, err := SealFull([]byte("x"), &fullKey, &full, make([]byte, MaxPlaintext+1)); !errors.Is(err, ErrLength) || string(b) != "x" {
		t.Errorf("too much to seal: %v", err)
	}
	bad := full
	bad.Type = 3
	if b, err := SealFull([]byte("x"), &fullKey, &bad, nil); !errors.Is(err, ErrType) || string(b) != "x" {
		t.Errorf("unknown type to seal: %v", err)
	}
}

// limited fails the test when more is read than was allowed.
type limited struct {
	t    *testing.T
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) > l.left {
		l.t.Errorf("asked for %d bytes of %d allowed", len(p), l.left)
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

func TestReadFull(t *testing.T) {
	good := sealFull(t, []byte("plaintext"))
	var huge [HeaderSize]byte
	binary.BigEndian.PutUint64(huge[:], uint64(newHeader(TypeHandshake, 0, 1<<16-1, 0)))
	boom := errors.New("boom")
	tests := []struct {
		name string
		r    io.Reader
		want error
	}{
		{"nothing", bytes.NewReader(nil), io.EOF},
		{"half a header", bytes.NewReader(good[:5]), io.ErrUnexpectedEOF},
		{"first eight bytes", bytes.NewReader(good[:8]), io.ErrUnexpectedEOF},
		{"all but one", bytes.NewReader(good[:len(good)-1]), io.ErrUnexpectedEOF},
		{"an error", io.MultiReader(bytes.NewReader(good[:20]), iotest.ErrReader(boom)), boom},
		{"not ours", strings.NewReader("GET / HTTP/1.1\r\n"), ErrVersion},
		{"too long", &limited{t, bytes.NewReader(huge[:]), HeaderSize}, ErrLength},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if b, err := ReadFull(tt.r, len(good)); !errors.Is(err, tt.want) || b != nil {
				t.Errorf("got %d bytes, %v, want %v", len(b), err, tt.want)
			}
		})
	}
	// The bytes of the next frame stay in the reader.
	r := &limited{t, bytes.NewReader(append(bytes.Clone(good), "rest"...)), len(good)}
	if _, err := ReadFull(r, len(good)); err != nil {
		t.Error(err)
	}
	if _, err := ReadFull(bytes.NewReader(good), len(good)-1); !errors.Is(err, ErrLength) {
		t.Errorf("a byte over the bound: %v", err)
	}
}
