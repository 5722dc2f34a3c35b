package registry_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// encode writes CBOR in the deterministic form: []byte, string, int, bool, []any and map[int]any.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signedBy wraps a payload, whatever it is, in an envelope with a right signature.
func signedBy(t testing.TB, k *identity.Key, payload []byte) []byte {
	return encode(t, []any{payload, k.Sign("record", payload)})
}

// A liar has a key and signs what no honest peer would: everything here carries a right signature.
func TestParseRefusesWhatSignDoesNotWrite(t *testing.T) {
	k := registrytest.Key(t)
	id := k.ID()
	good := func() map[int]any {
		return map[int]any{1: id[:], 2: noon.UnixMilli(), 3: noon.UnixMilli() + 1000,
			4: []any{registrytest.Addr(t, "/ip4/192.0.2.1/tcp/443").Bytes()}, 5: []any{"exit", "relay"}, 6: "example"}
	}
	if r, err := registry.Parse(signedBy(t, k, encode(t, good()))); err != nil || r.Operator != "example" {
		t.Fatalf("the honest one: %+v, %v", r, err)
	}
	for _, tc := range []struct {
		name  string
		lie   func(m map[int]any)
		field string
	}{
		{"sequence 0", func(m map[int]any) { m[2] = 0 }, "sequence"},
		{"negative sequence", func(m map[int]any) { m[2] = -5 }, "sequence"},
		{"huge sequence", func(m map[int]any) { m[2] = uint64(1) << 63 }, "payload"},
		{"sequence as text", func(m map[int]any) { m[2] = "1" }, "payload"},
		{"sequence as a float", func(m map[int]any) { m[2] = 1.0 }, "payload"},
		{"no sequence", func(m map[int]any) { delete(m, 2) }, "sequence"},
		{"no expiry", func(m map[int]any) { delete(m, 3) }, "expires"},
		{"life of 48 h and 1 ms", func(m map[int]any) { m[3] = noon.UnixMilli() + registry.MaxLife.Milliseconds() + 1 }, "expires"},
		{"ends before it begins", func(m map[int]any) { m[3] = 1 }, "expires"},
		{"no ID", func(m map[int]any) { delete(m, 1) }, "id"},
		{"short ID", func(m map[int]any) { m[1] = id[:31] }, "id"},
		{"zero ID", func(m map[int]any) { m[1] = make([]byte, 32) }, "id"},
		{"ID as text", func(m map[int]any) { m[1] = id.String() }, "payload"},
		{"addresses null", func(m map[int]any) { m[4] = nil }, ""},
		{"no addresses, but said", func(m map[int]any) { m[4] = []any{} }, ""},
		{"empty address", func(m map[int]any) { m[4] = []any{[]byte{}} }, "addrs[0]"},
		{"address cut", func(m map[int]any) { m[4] = []any{[]byte{4, 192, 0}} }, "addrs[0]"},
		{"address of an unknown protocol", func(m map[int]any) { m[4] = []any{[]byte{0xff, 0xff, 0x7f}} }, "addrs[0]"},
		{"address with a long varint", func(m map[int]any) { m[4] = []any{[]byte{0x84, 0, 192, 0, 2, 1}} }, "addrs[0]"},
		{"address as text", func(m map[int]any) { m[4] = []any{"/ip4/192.0.2.1"} }, "payload"},
		{"17 addresses", func(m map[int]any) { m[4] = slices.Repeat([]any{[]byte{4, 1, 2, 3, 4}}, 17) }, "payload"},
		{"address of 17 components", func(m map[int]any) { m[4] = []any{bytes.Repeat([]byte{0xdd, 3}, 17)} }, "addrs[0]"},
		{"address with a line end", func(m map[int]any) { m[4] = []any{[]byte("\x36\x03a\nb")} }, "addrs[0]"},
		{"address with an escape", func(m map[int]any) { m[4] = []any{[]byte("\x36\x05\x1b[2Jb")} }, "addrs[0]"},
		{"address not UTF-8", func(m map[int]any) { m[4] = []any{[]byte("\x36\x03a\xffb")} }, "addrs[0]"},
		{"capabilities unsorted", func(m map[int]any) { m[5] = []any{"relay", "exit"} }, "capabilities[1]"},
		{"capability doubled", func(m map[int]any) { m[5] = []any{"exit", "exit"} }, "capabilities[1]"},
		{"17 capabilities", func(m map[int]any) { m[5] = slices.Repeat([]any{"a"}, 17) }, "payload"},
		{"capability of no characters", func(m map[int]any) { m[5] = []any{""} }, "capabilities[0]"},
		{"operator as bytes", func(m map[int]any) { m[6] = []byte("example") }, "payload"},
		{"operator empty, but said", func(m map[int]any) { m[6] = "" }, ""},
		{"operator not UTF-8", func(m map[int]any) { m[6] = "\xff" }, "payload"},
		{"not revoked, but said", func(m map[int]any) { m[7] = false }, ""},
		{"revoked with addresses", func(m map[int]any) { m[7] = true }, "revoked"},
		{"unknown field", func(m map[int]any) { m[8] = 1 }, "payload"},
		{"unknown negative field", func(m map[int]any) { m[-1] = 1 }, "payload"},
		{"tagged", func(m map[int]any) { m[2] = cbor.Tag{Number: 1, Content: 1} }, "payload"},
		{"deeply nested", func(m map[int]any) { m[4] = []any{[]any{[]any{[]any{1}}}} }, "payload"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := good()
			tc.lie(m)
			r, err := registry.Parse(signedBy(t, k, encode(t, m)))
			wantError(t, err, registry.ErrMalformed, tc.field)
			if r != nil {
				t.Errorf("a record came with the error: %+v", r)
			}
		})
	}
}

func TestParseRefusesSecondEncodings(t *testing.T) {
	k := registrytest.Key(t)
	id := k.ID()
	one, two, three := []byte{1, 0x58, 32}, []byte{2, 5}, []byte{3, 6}
	one = append(one, id[:]...)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	payload := join([]byte{0xa3}, one, two, three)
	b := signedBy(t, k, payload)
	if _, err := registry.Parse(b); err != nil {
		t.Fatalf("the first encoding: %v", err)
	}
	sig := b[len(b)-64:]
	for _, tc := range []struct {
		name    string
		encoded []byte
	}{
		{"keys out of order", signedBy(t, k, join([]byte{0xa3}, one, three, two))},
		{"key doubled", signedBy(t, k, join([]byte{0xa4}, one, two, two, three))},
		{"long key", signedBy(t, k, join([]byte{0xa3}, one, []byte{0x18, 2, 5}, three))},
		{"long number", signedBy(t, k, join([]byte{0xa3}, one, []byte{2, 0x18, 5}, three))},
		{"endless map", signedBy(t, k, join([]byte{0xbf}, one, two, three, []byte{0xff}))},
		{"long map head", signedBy(t, k, join([]byte{0xb8, 3}, one, two, three))},
		{"text key", signedBy(t, k, join([]byte{0xa4}, one, two, three, []byte{0x61, '4', 0x80}))},
		{"bytes after the payload", signedBy(t, k, join(payload, []byte{0}))},
		{"bytes after the record", join(b, []byte{0})},
		{"endless array", join([]byte{0x9f}, b[1:], []byte{0xff})},
		{"long array head", join([]byte{0x98, 2}, b[1:])},
		{"long payload head", join([]byte{0x82, 0x59, 0}, b[2:])},
		{"array of three", join([]byte{0x83}, b[1:], []byte{0})},
		{"array of one", join([]byte{0x81}, b[1:len(b)-66])},
		{"a map instead", encode(t, map[string]any{"Payload": payload, "Signature": sig})},
		{"tagged", join([]byte{0xd9, 0xd9, 0xf7}, b)},
		{"null", []byte{0xf6}},
		{"nothing", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r, err := registry.Parse(tc.encoded); !errors.Is(err, registry.ErrMalformed) || r != nil {
				t.Errorf("Parse is %+v, %v; want ErrMalformed", r, err)
			}
		})
	}
}

func TestParseRefusesForgeries(t *testing.T) {
	k, thief := registrytest.Key(t), registrytest.Key(t)
	b := registrytest.Signed(t, k, noon).Marshal()
	var parts [][]byte
	if err := cbor.Unmarshal(b, &parts); err != nil {
		t.Fatal(err)
	}
	payload, sig := parts[0], parts[1]
	changed := bytes.Replace(payload, []byte("example"), []byte("exbmple"), 1)
	for _, tc := range []struct {
		name         string
		payload, sig []byte
	}{
		{"another's signature", payload, thief.Sign("record", payload)},
		{"changed payload", changed, sig},
		{"for another purpose", payload, k.Sign("recorded", payload)},
		{"no signature", payload, nil},
		{"null signature", payload, nil},
		{"cut signature", payload, sig[:63]},
		{"longer signature", payload, append(slices.Clone(sig), 0)},
		{"zero signature", payload, make([]byte, 64)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			signature := any(tc.sig)
			if tc.name == "no signature" {
				signature = []byte{}
			}
			_, err := registry.Parse(encode(t, []any{tc.payload, signature}))
			wantError(t, err, registry.ErrBadSignature, "signature")
			var re *registry.RecordError
			if errors.As(err, &re); re.ID != k.ID() {
				t.Errorf("the error is about %v", re.ID)
			}
		})
	}
}

// Every single flipped bit and every cut is refused.
func TestParseRefusesDamage(t *testing.T) {
	b := registrytest.Signed(t, registrytest.Key(t), noon).Marshal()
	for i := range b {
		if _, err := registry.Parse(b[:i]); !errors.Is(err, registry.ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
		for bit := range 8 {
			damaged := slices.Clone(b)
			damaged[i] ^= 1 << bit
			_, err := registry.Parse(damaged)
			if !errors.Is(err, registry.ErrMalformed) && !errors.Is(err, registry.ErrBadSignature) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
}

func TestParseDoesNotKeepItsInput(t *testing.T) {
	want := registrytest.Signed(t, registrytest.Key(t), noon)
	b := want.Marshal()
	r, err := registry.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if err := r.Check(noon); err != nil || !r.Equal(want) {
		t.Errorf("after the input was cleared: %+v, %v", r, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		b, err := hex.DecodeString(v.Record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x82, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		checkParse(t, b)
	})
}

// FuzzParseSigned fuzzes what a liar signs, which lies behind the signature where FuzzParse does not get.
func FuzzParseSigned(f *testing.F) {
	k := keyOf(f, vectors(f)[0].Seed)
	id := k.ID()
	for _, v := range vectors(f) {
		var parts [][]byte
		if err := cbor.Unmarshal(unhex(f, v.Record), &parts); err != nil {
			f.Fatal(err)
		}
		// The ID is the fuzzer's, so that it need not keep it.
		f.Add(bytes.Replace(parts[0], parts[0][4:36], id[:], 1))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		checkParse(t, signedBy(t, k, payload))
	})
}

// checkParse checks that Parse refuses b with a typed error, or takes it for exactly what it writes itself.
func checkParse(t *testing.T, b []byte) {
	r, err := registry.Parse(b)
	if err != nil {
		var re *registry.RecordError
		if r != nil || !errors.As(err, &re) || re.Op != "parse" {
			t.Fatalf("Parse is %+v, %v", r, err)
		}
		return
	}
	if !bytes.Equal(r.Marshal(), b) {
		t.Fatalf("%x became %x", b, r.Marshal())
	}
	if err := r.Check(registrytest.NewClock().Now()); errors.Is(err, registry.ErrBadSignature) {
		t.Fatalf("Check after Parse: %v", err)
	}
	again := r.Clone()
	if again.ID = (identity.ID{}); r.Newer(again) || again.Newer(r) {
		t.Fatal("records of two IDs compare")
	}
}

func BenchmarkParse(b *testing.B) {
	data := registrytest.Signed(b, registrytest.Key(b), noon).Marshal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r := registrytest.Signed(b, registrytest.Key(b), noon)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Check(noon); err != nil {
			b.Fatal(err)
		}
	}
}
