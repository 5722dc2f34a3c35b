package identity_test

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/base32"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// textOf spells a key with the given version, with a right checksum.
func textOf(key []byte, version byte) string {
	sum := sha256.Sum256(append(append([]byte("splitmesh/v1/id"), key...), version))
	b := append(append(bytes.Clone(key), sum[:2]...), version)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

func TestParseIDRefuses(t *testing.T) {
	id := newKey(t).ID()
	text, peer := id.String(), id.PeerID()
	if textOf(id[:], 1) != text {
		t.Fatalf("text is %s, want %s", text, textOf(id[:], 1))
	}
	typo := func(s string, i int) string {
		c := byte('a')
		if s[i] == c {
			c = 'b'
		}
		return s[:i] + string(c) + s[i+1:]
	}
	for _, tc := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", identity.ErrLength},
		{"only the prefix", "/p2p/", identity.ErrSpelling},
		{"zero ID's text", identity.ID{}.String(), identity.ErrLength},
		{"upper case", strings.ToUpper(text), identity.ErrSpelling},
		{"one upper-case letter", strings.ToUpper(text[:1]) + "!" + text[2:], identity.ErrSpelling},
		{"cut", text[:55], identity.ErrLength},
		{"one more", text + "a", identity.ErrLength},
		{"padded", text + "=", identity.ErrLength},
		{"line end", text + "\n", identity.ErrLength},
		{"line ends within", text[:48] + "\n\n\n\n\n\n\n\n", identity.ErrSpelling},
		{"space first", " " + text, identity.ErrLength},
		{"character outside the alphabet", "1" + text[1:], identity.ErrSpelling},
		{"first character mistyped", typo(text, 0), identity.ErrChecksum},
		{"middle character mistyped", typo(text, 30), identity.ErrChecksum},
		{"last character mistyped", typo(text, 55), identity.ErrChecksum},
		{"two characters swapped", swapFirst(text), identity.ErrChecksum},
		{"later version", textOf(id[:], 2), identity.ErrVersion},
		{"version 0", textOf(id[:], 0), identity.ErrVersion},
		{"p2p before the base32 spelling", "/p2p/" + text, identity.ErrSpelling},
		{"p2p twice", "/p2p//p2p/" + peer, identity.ErrSpelling},
		{"other protocol", "/ipfs/" + peer, identity.ErrLength},
		{"trailing slash", "/p2p/" + peer + "/", identity.ErrSpelling},
		{"peer ID cut", peer[:51], identity.ErrSpelling},
		{"peer ID longer", peer + "1", identity.ErrSpelling},
		{"peer ID of a leading zero more", "/p2p/1" + peer, identity.ErrSpelling},
		{"peer ID with an excluded letter", peer[:20] + "0" + peer[21:], identity.ErrSpelling},
		{"RSA peer ID", "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", identity.ErrSpelling},
		{"secp256k1 peer ID", "/p2p/16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY", identity.ErrSpelling},
		{"very long", "/p2p/" + strings.Repeat("1", 1<<12), identity.ErrLength},
		{"very long, base32", strings.Repeat("a", 1<<20), identity.ErrLength},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := identity.ParseID(tc.text)
			var ide *identity.IDError
			if !errors.Is(err, tc.want) || !errors.As(err, &ide) || !got.IsZero() {
				t.Fatalf("ParseID(%.80q) = %v, %v; want %v", tc.text, got, err, tc.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func swapFirst(s string) string {
	for i := 1; ; i++ {
		if s[i] != s[0] {
			return s[i:i+1] + s[1:i] + s[:1] + s[i+1:]
		}
	}
}

// Every wrong character at every place is caught, but for the one in 65,536 that a 2-byte checksum lets through; the
// key is fixed, so that the test has one outcome.
func TestChecksumCatchesTypingErrors(t *testing.T) {
	id := vectors(t)[0].ID
	for i := range id {
		for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
			if byte(c) == id[i] {
				continue
			}
			if _, err := identity.ParseID(id[:i] + string(c) + id[i+1:]); err == nil {
				t.Errorf("character %d as %c is accepted", i, c)
			}
		}
	}
}

func TestTextMarshalling(t *testing.T) {
	var _ encoding.TextMarshaler = identity.ID{}
	id := newKey(t).ID()
	in := map[identity.ID]identity.ID{id: id, {}: {}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[identity.ID]identity.ID
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if len(out) != 2 || out[id] != id || !out[identity.ID{}].IsZero() {
		t.Errorf("%v became %v", in, out)
	}
	before := id
	if err := id.UnmarshalText([]byte("nobody")); !errors.Is(err, identity.ErrLength) || id != before {
		t.Errorf("after an error: %v, %v", id, err)
	}
	for _, s := range []string{identity.ID{}.String(), identity.ID{}.PeerID(), identity.ID{}.Short()} {
		if s != "invalid ID" {
			t.Errorf("the zero ID prints %q", s)
		}
	}
}

// Whatever way a program prints a key, the seed is not in it: not as bytes, not as text, in no common base.
func TestKeyNeverPrintsItsSeed(t *testing.T) {
	k := newKey(t)
	type holder struct {
		key   identity.Key
		keyAt *identity.Key
		K     identity.Key
		P     *identity.Key
	}
	h := holder{*k, k, *k, k}
	var out strings.Builder
	for _, v := range []any{k, *k, h, &h, []*identity.Key{k}, []identity.Key{*k}, map[string]any{"k": k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "v", v)
		b, err := json.Marshal(v)
		out.Write(b)
		if err == nil {
			t.Errorf("%T: JSON has no error", v)
		} else if !errors.Is(err, identity.ErrSecret) {
			t.Errorf("%T: JSON error is %v", v, err)
		}
	}
	if _, err := k.MarshalText(); !errors.Is(err, identity.ErrSecret) {
		t.Errorf("MarshalText: %v", err)
	}
	var g bytes.Buffer
	if err := gob.NewEncoder(&g).Encode(k); !errors.Is(err, identity.ErrSecret) {
		t.Errorf("gob: %v", err)
	}
	out.Write(g.Bytes())

	got := out.String()
	if !strings.Contains(got, k.ID().String()) {
		t.Error("the output does not name the key")
	}
	seed, scalar := k.Seed(), k.X25519().Bytes()
	for _, s := range [][]byte{seed[:6], seed[26:], scalar[:6], scalar[26:]} {
		dec := strings.Trim(fmt.Sprint(s), "[]")
		for _, needle := range []string{string(s), hex.EncodeToString(s), strings.ToUpper(hex.EncodeToString(s)),
			dec, strings.ReplaceAll(dec, " ", ", "), fmt.Sprintf("%#v", s)[8:]} {
			if strings.Contains(got, strings.Trim(needle, "{}")) {
				t.Fatal("the output holds part of the secret")
			}
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.ID)
		f.Add(v.PeerID)
		f.Add("/p2p/" + v.PeerID)
	}
	f.Add("/p2p/")
	f.Add(strings.Repeat("a", 56))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseID(s)
		if err != nil {
			var ide *identity.IDError
			if !errors.As(err, &ide) || !id.IsZero() {
				t.Fatalf("ParseID(%q) = %v, %v", s, id, err)
			}
			return
		}
		if s != id.String() && s != id.PeerID() && s != "/p2p/"+id.PeerID() {
			t.Fatalf("%q is accepted, which is no spelling of %s", s, id)
		}
		if again, err := identity.NewID(id[:]); err != nil || again != id {
			t.Fatalf("NewID refuses what ParseID accepts: %v", err)
		}
	})
}

func FuzzNewID(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.PublicKey))
	}
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := identity.NewID(b)
		if err != nil {
			return
		}
		if !bytes.Equal(id[:], b) || id.X25519() == [32]byte{} {
			t.Fatalf("NewID(%x) = %x with X25519 %x", b, id[:], id.X25519())
		}
	})
}
