package rekey

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// A vector is a session and two commits. Bytes are hexadecimal.
type vector struct {
	Exporters map[uint32]string // by path; path 1 is the first
	Commits   []vectorCommit
}

type vectorCommit struct {
	Propose, Accept                []uint32 // the paths that each names
	DiallerX25519, ResponderX25519 string   // private keys
	KEMSeed, KEMRandom             string   // d ‖ z, and m of the encapsulation
	ProposeBody, AcceptBody        string
	Root                           string
	FromDialler, FromResponder     map[uint32]string // by path
}

const vectorsFile = "testdata/vectors.json"

func filled(b byte, n int) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, n)) }

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectorInputs are what the file's vector begins from: path 2 joins after the
// first commit, and path 3 has died for the responder.
func vectorInputs() vector {
	return vector{
		Exporters: map[uint32]string{1: filled(0x11, 32), 2: filled(0x22, 32), 3: filled(0x33, 32), 258: filled(0x44, 32)},
		Commits: []vectorCommit{
			{Propose: []uint32{1, 3}, Accept: []uint32{1, 3}, DiallerX25519: filled(0x51, 32), ResponderX25519: filled(0x52, 32), KEMSeed: filled(0x53, 64), KEMRandom: filled(0x54, 32)},
			{Propose: []uint32{1, 2, 3, 258}, Accept: []uint32{1, 2, 258}, DiallerX25519: filled(0x61, 32), ResponderX25519: filled(0x62, 32), KEMSeed: filled(0x63, 64), KEMRandom: filled(0x64, 32)},
		},
	}
}

// compute fills in all that follows from v's inputs. It is written from
// docs/SPEC.md alone and shares nothing with the package.
func (v *vector) compute(t *testing.T) {
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	ids := func(list []uint32) []byte {
		b := []byte{byte(len(list))}
		for _, id := range list {
			b = append(b, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
		}
		return b
	}
	x25519 := func(s string) *ecdh.PrivateKey {
		k, err := ecdh.X25519().NewPrivateKey(unhex(t, s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root := mac(unhex(t, v.Exporters[1]), []byte("splitmesh/v1/root\x01"))
	mixed := map[uint32]bool{}
	for i := range v.Commits {
		c := &v.Commits[i]
		d, r := x25519(c.DiallerX25519), x25519(c.ResponderX25519)
		shared, err := d.ECDH(r.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		kem, err := mlkem.NewDecapsulationKey768(unhex(t, c.KEMSeed))
		if err != nil {
			t.Fatal(err)
		}
		kemShared, ciphertext, err := mlkemtest.Encapsulate768(kem.EncapsulationKey(), unhex(t, c.KEMRandom))
		if err != nil {
			t.Fatal(err)
		}
		number := []byte{0, 0, 0, byte(i + 1)}
		propose := bytes.Join([][]byte{number, d.PublicKey().Bytes(), kem.EncapsulationKey().Bytes(), ids(c.Propose)}, nil)
		accept := bytes.Join([][]byte{number, r.PublicKey().Bytes(), ciphertext, ids(c.Accept)}, nil)
		ikm := append(bytes.Clone(shared), kemShared...)
		for _, id := range c.Accept {
			if !mixed[id] {
				ikm = append(ikm, unhex(t, v.Exporters[id])...)
			}
			mixed[id] = true
		}
		transcript := sha256.Sum256(append(bytes.Clone(propose), accept...))
		root = mac(mac(root, ikm), []byte("splitmesh/v1/commit"), transcript[:], []byte{1})
		c.ProposeBody, c.AcceptBody, c.Root = hex.EncodeToString(propose), hex.EncodeToString(accept), hex.EncodeToString(root)
		c.FromDialler, c.FromResponder = map[uint32]string{}, map[uint32]string{}
		for _, id := range c.Accept {
			info := append([]byte("splitmesh/v1/traffic"), ids([]uint32{id})[1:]...)
			c.FromDialler[id] = hex.EncodeToString(mac(root, info, []byte{0, 1}))
			c.FromResponder[id] = hex.EncodeToString(mac(root, info, []byte{1, 1}))
		}
	}
}

func TestVectors(t *testing.T) {
	want := vectorInputs()
	want.compute(t)
	text, err := json.MarshalIndent(&want, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if file, err := os.ReadFile(vectorsFile); err != nil || !bytes.Equal(file, text) {
		t.Fatalf("%s is not what the specification gives: %v", vectorsFile, err)
	}

	first := [32]byte(unhex(t, want.Exporters[1]))
	d := New(true, &first, Limits{}, start)
	for i, c := range want.Commits {
		for _, id := range c.Propose {
			if e := [32]byte(unhex(t, want.Exporters[id])); d.path(id) == nil {
				if err := d.Join(id, &e); err != nil {
					t.Fatal(err)
				}
			}
		}
		x, _ := ecdh.X25519().NewPrivateKey(unhex(t, c.DiallerX25519))
		kem, _ := mlkem.NewDecapsulationKey768(unhex(t, c.KEMSeed))
		d.propose(&Ephemeral{x, kem})
		if got := hex.EncodeToString(d.proposal.body); got != c.ProposeBody {
			t.Fatalf("commit %d: propose is\n%s, want\n%s", i+1, got, c.ProposeBody)
		}
		open, seal, err := d.handleAccept(start, unhex(t, c.AcceptBody))
		if err != nil || hex.EncodeToString(d.root[:]) != c.Root || len(open) != len(c.Accept) {
			t.Fatalf("commit %d: %v", i+1, err)
		}
		for j, id := range c.Accept {
			if hex.EncodeToString(open[j].Secret[:]) != c.FromResponder[id] || hex.EncodeToString(seal[j].Secret[:]) != c.FromDialler[id] {
				t.Errorf("commit %d: the secrets of path %d differ", i+1, id)
			}
			d.Opened(id, open[j].Epoch)
		}
	}
}
