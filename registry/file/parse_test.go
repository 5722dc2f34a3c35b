package file_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/file"
)

// The peers of the tests, whose seeds are the bytes 1, 2 and 3, and zeros.
const (
	one   = "z3gbkb64dxoxffmvdquqrchqsww3sbcndnz5nfxg34df22b32t6j45qb"
	two   = "nn44k7tkbfjdskbmasay5fqrf47qhjaadouxuvsmeocsupy6ux6nv2ib"
	three = "3ln5dbfc2utpd265lqdp3lmtlgzcq5m3jv7xtvtgrh5cksvnqvdo7lib"

	peerOne   = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	peerTwo   = "/p2p/12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3"
	peerThree = "/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
)

func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/hosts")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain is a peer in words.
type plain struct {
	ID           string
	Addrs, Names []string
}

func inWords(peers []file.Peer) []plain {
	var out []plain
	for _, p := range peers {
		w := plain{p.ID.String(), nil, p.Names}
		for _, a := range p.Addrs {
			w.Addrs = append(w.Addrs, a.String())
		}
		out = append(out, w)
	}
	return out
}

func printed(peers []file.Peer) string {
	var b strings.Builder
	for i := range peers {
		b.WriteString(peers[i].String())
	}
	return b.String()
}

var sampleInWords = []plain{
	{one, []string{"/dns4/gate.example.com/tcp/443/wss" + peerOne, "/ip4/192.0.2.7/tcp/4001" + peerOne}, []string{"gate", "relay-1"}},
	{two, nil, []string{"ann", "laptop"}},
	{three, []string{"/ip6/2001:db8::1/tcp/443/wss" + peerOne + "/p2p-circuit" + peerThree}, nil},
}

func TestParseHosts(t *testing.T) {
	text := sample(t)
	for name, text := range map[string][]byte{
		"as it is":            text,
		"line ends of DOS":    bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"byte order mark":     append([]byte("\ufeff"), text...),
		"comment not in UTF8": append(bytes.Clone(text), "\n# f\xfcr\x00"...),
	} {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(text)
			peers, err := file.ParseHosts(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(sampleInWords, inWords(peers)); diff != "" {
				t.Error(diff)
			}
			if !bytes.Equal(text, before) {
				t.Error("the text was changed")
			}
		})
	}
	if peers, err := file.ParseHosts(nil); len(peers) != 0 || err != nil {
		t.Errorf("an empty file: %v, %v", peers, err)
	}
}

func TestParseHostsRefuses(t *testing.T) {
	addr := "/ip4/192.0.2.7/tcp/4001"
	for _, tc := range []struct {
		name, text   string
		line, column int
		want         error  // may be nil
		says         string // in the message
	}{
		{"no ID", "ann " + one, 1, 1, identity.ErrLength, `"ann"`},
		{"mistyped ID", "\n\n \t" + one[:55] + "c ann", 3, 3, identity.ErrChecksum, ""},
		{"mistyped ID in an address", addr + "/p2p/" + one[:55] + "c", 1, 1, identity.ErrChecksum, ""},
		{"ID in upper case", strings.ToUpper(one) + " ann", 1, 1, identity.ErrSpelling, ""},
		{"an ID alone", one + " # ann", 1, 1, nil, "nothing"},
		{"a peer ID alone", peerOne, 1, 1, nil, "nothing"},
		{"address of nobody", addr + " ann", 1, 1, nil, "must end in /p2p/"},
		{"address of an RSA key", addr + "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", 1, 1, identity.ErrLength, ""},
		{"no address", "/ip4/192.0.2" + peerOne, 1, 1, nil, "192.0.2"},
		{"unknown protocol", "/carrier-pigeon" + peerOne, 1, 1, nil, "carrier-pigeon"},
		{"a path that swallows the ID", "/unix/run" + peerOne, 1, 1, nil, "nothing can follow unix"},
		{"too many components", addr + strings.Repeat("/ws", registry.MaxComponents-2) + peerOne, 1, 1, nil, "components"},
		{"address too long", "/dns/" + strings.Repeat("a", registry.MaxSize) + peerOne, 1, 1, nil, "bytes"},
		{"address too long once it is spelled out", "/http-path/" + strings.Repeat("'", registry.MaxSize-100) + peerOne, 1, 1, nil, "bytes"},
		{"relay too long to be decoded", "/p2p/" + strings.Repeat("Q", registry.MaxSize) + "/p2p-circuit" + peerOne, 1, 1, nil, "bytes"},
		{"long, and no address", "/dns/" + strings.Repeat("a", registry.MaxSize/2) + "/carrier-pigeon" + peerOne, 1, 1, nil, "multiaddr"},
		{"two addresses", addr + peerOne + " " + addr + peerOne, 1, 82, nil, "line of its own"},
		{"two IDs", one + " " + two, 1, 58, nil, "no petname"},
		{"name in upper case", one + " gate Ann", 1, 63, nil, `"Ann"`},
		{"name with a dot", one + " a.b", 1, 58, nil, `"a.b"`},
		{"name too long", one + " " + strings.Repeat("a", 33), 1, 58, nil, "32"},
		{"name of two", "# \n" + one + " ann\n" + two + " bob\n" + three + " bob2 ann", 4, 63, registry.ErrNameTaken, "line 2"},
		{"invisible character", one + " ann\u200b", 1, 61, nil, "U+200B"},
		{"space that is none", one + "\u00a0ann", 1, 57, nil, "U+00A0"},
		{"control character", one + " ann\x00", 1, 61, nil, "U+0000"},
		{"UTF-16", "\xff\xfez\x003\x00", 1, 1, nil, "UTF-8"},
		{"line ends of old", one + " ann\r" + two + " bob", 1, 61, nil, "U+000D"},
		{"line too long", "\n# " + strings.Repeat("a", file.MaxHostsLine-1), 2, file.MaxHostsLine + 1, file.ErrTooLarge, ""},
		{"file too large", strings.Repeat("# \n", file.MaxHostsSize/3) + "##", 0, 0, file.ErrTooLarge, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			peers, err := file.ParseHosts([]byte(tc.text))
			var he *file.HostsError
			if peers != nil || !errors.As(err, &he) || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("ParseHosts: %v, %v; want %v that says %q", peers, err, tc.want, tc.says)
			}
			if he.Line != tc.line || he.Column != tc.column {
				t.Errorf("line %d, column %d; want %d, %d: %v", he.Line, he.Column, tc.line, tc.column, err)
			}
			if len(err.Error()) > 600 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

// What is as large as it may be is read.
func TestParseHostsAtTheLimits(t *testing.T) {
	for name, text := range map[string]string{
		"line":       "# " + strings.Repeat("a", file.MaxHostsLine-2) + "\r\n",
		"file":       strings.Repeat("# \n", file.MaxHostsSize/3) + "#",
		"components": "/ip4/192.0.2.7/tcp/4001" + strings.Repeat("/ws", registry.MaxComponents-3) + peerOne,
		"name":       one + " " + strings.Repeat("a", registry.MaxName),
	} {
		if _, err := file.ParseHosts([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many names make several lines, so that none is too long.
func TestPrintManyNames(t *testing.T) {
	var text strings.Builder
	for i := range 26 * 26 * 26 {
		text.WriteString(one + " " + string([]rune{'a' + rune(i/676), 'a' + rune(i/26%26), 'a' + rune(i%26)}) + "\n")
		if text.Len() > file.MaxHostsSize-100 {
			break
		}
	}
	peers, err := file.ParseHosts([]byte(text.String()))
	if err != nil || len(peers) != 1 {
		t.Fatal(len(peers), err)
	}
	if len(printed(peers)) < file.MaxHostsLine {
		t.Fatal("too few names to be of use here")
	}
	again, err := file.ParseHosts([]byte(printed(peers)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inWords(peers), inWords(again)); diff != "" {
		t.Error(diff)
	}
}

// FuzzParseHosts checks that what was read is printed so that it is read again, and that an error is in the text.
func FuzzParseHosts(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(""))
	f.Add([]byte("\ufeff# a comment\r\n"))
	f.Add([]byte(one + " ann\n" + two + " bob\n" + one + " ann anna\n"))
	f.Add([]byte(one + " ann\n" + two + " ann\n"))
	f.Add([]byte("/dns/example.com/tcp/443/tls/http/http-path/a%2Fb%23" + peerTwo + " web"))
	f.Add([]byte("/ip6zone/eth0/ip6/fe80::1/udp/53/quic-v1/webtransport/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g" + peerOne))
	f.Add([]byte("/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234" + peerOne + "/p2p-circuit/p2p/" + two))
	f.Add([]byte("/memory/42/unix/a/b" + peerOne))
	f.Add([]byte(peerOne + "/p2p-circuit" + peerTwo + " \t hidden#"))
	f.Fuzz(func(t *testing.T, text []byte) {
		peers, err := file.ParseHosts(text)
		if err != nil {
			var he *file.HostsError
			if peers != nil || !errors.As(err, &he) || len(text) <= file.MaxHostsSize && (he.Line < 1 || he.Line > 1+bytes.Count(text, []byte("\n")) ||
				he.Column < 1 || he.Column > len(text)) {
				t.Fatalf("%v, %#v", peers, err)
			}
			return
		}
		if len(printed(peers)) > file.MaxHostsSize {
			return // escapes made it longer
		}
		again, err := file.ParseHosts([]byte(printed(peers)))
		if err != nil {
			t.Fatalf("%v in what was printed: %q", err, printed(peers))
		}
		if diff := cmp.Diff(inWords(peers), inWords(again)); diff != "" {
			t.Fatal(diff)
		}
		if printed(again) != printed(peers) {
			t.Fatalf("%q is printed again as %q", printed(peers), printed(again))
		}
	})
}
