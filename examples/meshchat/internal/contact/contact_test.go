package contact

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/tyler-smith/go-bip39/wordlists"

	"github.com/splitmesh/splitmesh/identity"
)

func id(n byte) identity.ID {
	seed := sha256.Sum256([]byte{n})
	k, err := identity.NewKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k.ID()
}

func sample() *Invitation {
	a, err := multiaddr.NewMultiaddr("/dns4/relay.example/tcp/443/wss/p2p/" + id(9).PeerID())
	if err != nil {
		panic(err)
	}
	return &Invitation{ID: id(1), Addrs: []multiaddr.Multiaddr{a, a}, Secret: make([]byte, 16), Nick: "Ann"}
}

func TestInvitation(t *testing.T) {
	for _, v := range []*Invitation{sample(), {ID: id(2)}} {
		got, err := Parse(" " + v.String() + "\n")
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%v, %v", got, err)
		}
	}
	text := sample().String()
	for _, folded := range []string{
		text[:9] + "\r\n" + text[9:40] + "\r\n\r\n" + text[40:] + "\r\n", // by a mail
		" │ " + text[:30] + "   \n │ " + text[30:] + "   \n │   ",        // by the screen
		strings.Join(strings.Split(text, ""), " \u00a0\t"),
	} {
		if got, err := Parse(folded); err != nil || !reflect.DeepEqual(got, sample()) {
			t.Errorf("%q: %v, %v", folded, got, err)
		}
	}
	for i := range len(text) { // no other text of one character's difference is one
		other := []byte(text)
		other[i]++
		if v, err := Parse(string(other)); !errors.Is(err, ErrInvitation) {
			t.Errorf("%s: %v, %v", other, v, err)
		}
	}
	nobody := sample()
	nobody.ID = identity.ID{}
	stranger := sample()
	stranger.Addrs[0] = stranger.Addrs[0][:3]
	for _, bad := range []string{"", "meshchat:", text[:len(text)-1], text + "A", nobody.String(), stranger.String(), prefix + strings.Repeat("A", MaxInvitation)} {
		if v, err := Parse(bad); !errors.Is(err, ErrInvitation) {
			t.Errorf("%.20s: %v, %v", bad, v, err)
		}
	}
}

func TestPhrase(t *testing.T) {
	if len(wordlists.English) != 2048 {
		t.Fatal(len(wordlists.English))
	}
	ab, ba, ac := Phrase(id(1), id(2)), Phrase(id(2), id(1)), Phrase(id(1), id(3))
	if !slices.Equal(ab, ba) || slices.Equal(ab, ac) || len(ab) != Words {
		t.Errorf("%v\n%v\n%v", ab, ba, ac)
	}
	if got, want := strings.Join(ab, " "), "absorb uncle sauce crystal axis silk debate cute peanut exhibit gauge tray"; got != want {
		t.Errorf("the phrase of a version never changes: %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().String())
	f.Add((&Invitation{ID: id(2)}).String())
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := Parse(s); err == nil && v.String() != unfold(s) {
			t.Fatalf("%q becomes %q", s, v)
		}
	})
}
