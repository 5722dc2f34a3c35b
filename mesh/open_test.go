package mesh

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/identity/keystore"
	"github.com/splitmesh/splitmesh/splitter"
)

func FuzzRequest(f *testing.F) {
	f.Add(appendRequest(nil, openRequest{"echo", nil}))
	f.Add(appendRequest(nil, openRequest{serviceConnect, make([]byte, 1400)}))
	f.Add(appendRequest(nil, openRequest{serviceReserve, nil}))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		q, err := readRequest(r)
		if err != nil {
			return
		}
		if again := appendRequest(nil, q); !bytes.Equal(again, p[:len(p)-r.Len()]) {
			t.Fatalf("%x is read as %+v, which is written as %x", p, q, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, openAnswer{}))
	f.Add(appendAnswer(nil, limitAnswer("MaxCircuits", 7)))
	f.Add(appendAnswer(nil, openAnswer{statusPurpose, []byte{byte(splitter.Secrecy)}}))
	f.Add(appendAnswer(nil, openAnswer{statusRefused, []byte("no")}))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		a, err := readAnswer(r)
		if err != nil {
			return
		}
		if again := appendAnswer(nil, a); !bytes.Equal(again, p[:len(p)-r.Len()]) {
			t.Fatalf("%x is read as %+v, which is written as %x", p, a, again)
		}
		if err := a.err(identity.ID{1}); (err == nil) != (a.status == statusOK) || err != nil && len(err.Error()) > 1000 {
			t.Fatal(err)
		}
	})
}

func FuzzParseAddr(f *testing.F) {
	k, err := identity.NewKeyFromSeed(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.ID().String() + ":echo")
	f.Add(k.ID().PeerID() + ":80")
	f.Add("x:y")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddr(s)
		if err != nil {
			if _, ok := errors.AsType[*AddrError](err); !ok || len(err.Error()) > 1200 {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if b, err := ParseAddr(a.String()); err != nil || a != b {
			t.Fatal(a, b, err)
		}
	})
}

func TestMalformedRequests(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"version", []byte{9, 1, 'x', 0, 0}, "version 9"},
		{"no name", []byte{1, 0, 0, 0}, "service name of 0 bytes"},
		{"long name", []byte{1, 200}, "service name of 200 bytes"},
		{"odd name", []byte{1, 1, '!', 0, 0}, "service name has"},
		{"unknown service of the mesh", []byte{1, 1, 'X', 0, 0}, "service name has"},
		{"body for an application", []byte{1, 1, 'x', 0, 1, 0}, "with a body of 1"},
		{"reserve with a body", []byte{1, 1, 'R', 0, 1, 0}, `request "R" of 1 bytes`},
		{"connect to nobody", []byte{1, 1, 'C', 0, 31}, `request "C" of 31 bytes`},
		{"connect with too much", []byte{1, 1, 'C', 0xff, 0xff}, `request "C" of 65535 bytes`},
	} {
		_, err := readRequest(bytes.NewReader(tt.in))
		if _, ok := errors.AsType[*FormatError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := readRequest(bytes.NewReader([]byte{1, 5, 'x'})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	for _, in := range [][]byte{{99, 0, 0}, {0, 0, 1, 7}, {statusLimit, 0, 2, 0, 0}, {1, 0xff, 0xff}, {statusPurpose, 0, 0}, {statusPurpose, 0, 1, 1}} {
		_, err := readAnswer(bytes.NewReader(in))
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("%x: %v", in, err)
		}
	}
}

func TestDiverse(t *testing.T) {
	r := func(n byte, operator, group string) route {
		return route{relay: identity.ID{n}, operator: operator, group: group}
	}
	for _, tt := range []struct {
		name             string
		used, candidates []route
		want             string
	}{
		{"nothing to tell apart", nil, []route{r(1, "", ""), r(2, "", "")}, "12"},
		{"other networks first", nil, []route{r(1, "", "a"), r(2, "", "a"), r(3, "", "b")}, "132"},
		{"other operators before other networks", nil, []route{r(1, "x", "a"), r(2, "x", "b"), r(3, "y", "a")}, "132"},
		{"unlike those in use", []route{r(9, "", "a")}, []route{r(1, "", "a"), r(2, "", "b")}, "21"},
	} {
		got := ""
		for _, r := range diverse(tt.used, tt.candidates, func(int) int { return 0 }) {
			got += string('0' + rune(r.relay[0]))
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "key")
	if err := keystore.Save(store, k, []byte("open sesame"), &keystore.Options{WorkFactor: 1}); err != nil {
		t.Fatal(err)
	}
	pass, netkey := file("pass", "open sesame\n"), file("netkey", strings.Repeat("ab", 32)+"\n")
	loose := file("loose", strings.Repeat("ab", 32))
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	peer := "/ip4/127.0.0.1/tcp/1/ws/p2p/" + k.ID().PeerID()
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string // in the error; empty: none
	}{
		{name: "nothing"},
		{name: "everything", env: map[string]string{
			"SPLITMESH_BOOTSTRAP": peer + ", " + peer, "SPLITMESH_LISTEN": "/ip4/127.0.0.1/tcp/0",
			"SPLITMESH_KEYSTORE": store, "SPLITMESH_PASSPHRASE_FILE": pass, "SPLITMESH_NETWORK_KEY_FILE": netkey,
		}},
		{"bad address", map[string]string{"SPLITMESH_BOOTSTRAP": "nonsense"}, "SPLITMESH_BOOTSTRAP"},
		{"http", map[string]string{"SPLITMESH_BOOTSTRAP": peer + ",http://example.org"}, "SPLITMESH_BOOTSTRAP: bootstrap from \"http://example.org\": it is neither"},
		{"a path behind the host", map[string]string{"SPLITMESH_BOOTSTRAP": "https://example.org/x"}, "want https://HOST"},
		{"bad multiaddr", map[string]string{"SPLITMESH_BOOTSTRAP": "/ip4/1.2.3/tcp/1"}, "SPLITMESH_BOOTSTRAP"},
		{"bad listen address", map[string]string{"SPLITMESH_LISTEN": "/ip4/1.2.3/tcp/1"}, "SPLITMESH_LISTEN"},
		{"no passphrase", map[string]string{"SPLITMESH_KEYSTORE": store}, "SPLITMESH_PASSPHRASE_FILE is not set"},
		{"wrong passphrase", map[string]string{"SPLITMESH_KEYSTORE": store, "SPLITMESH_PASSPHRASE_FILE": file("wrong", "x")}, "SPLITMESH_KEYSTORE"},
		{"no such file", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": filepath.Join(dir, "none")}, "SPLITMESH_NETWORK_KEY_FILE"},
		{"short network key", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": file("short", "abcd")}, "64 hexadecimal"},
		{"long network key", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": file("long", strings.Repeat("ab", 33))}, "64 hexadecimal"},
		{"no hexadecimal", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": file("odd", strings.Repeat("xy", 32))}, "64 hexadecimal"},
		{"passphrase for nothing", map[string]string{"SPLITMESH_PASSPHRASE_FILE": pass}, "SPLITMESH_KEYSTORE"},
		{"readable by others", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": loose}, "chmod 600"},
		{"huge file", map[string]string{"SPLITMESH_NETWORK_KEY_FILE": file("huge", strings.Repeat("a", 5000))}, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, v := range tt.env {
				t.Setenv(name, v)
			}
			n, err := nodeFromEnvironment(t.Context())
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("%v, want %q", err, tt.want)
				}
				if strings.Contains(err.Error(), strings.Repeat("ab", 8)) {
					t.Error("the error shows the secret")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(tt.env) > 0 && (len(n.Bootstrap) != 2 || len(n.ListenAddrs) != 1 || n.Identity.ID() != k.ID() || hex.EncodeToString(n.NetworkKey[:]) != strings.Repeat("ab", 32)) {
				t.Errorf("%d %d %v", len(n.Bootstrap), len(n.ListenAddrs), n.Identity)
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]string{"bootstrap": "/ip4/127.0.0.1/tcp/1", "unsupported": "/ip4/127.0.0.1/udp/1"} {
		t.Setenv("SPLITMESH_BOOTSTRAP", "")
		t.Setenv("SPLITMESH_LISTEN", "")
		if name == "bootstrap" {
			t.Setenv("SPLITMESH_BOOTSTRAP", env)
		} else {
			t.Setenv("SPLITMESH_LISTEN", env)
		}
		n, err := nodeFromEnvironment(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.Identity = k
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), env) {
			t.Errorf("%s: %v", name, err)
		}
		n.Close()
	}
	for want, n := range map[string]*Node{
		"all zeros":         {NetworkKey: new([32]byte)},
		"needs ListenAddrs": {Relay: &RelayConfig{}},
	} {
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		n.Close()
	}
	n := &Node{Split: splitter.Policy{MinPaths: 99}}
	if err := n.Start(t.Context()); !errors.Is(err, splitter.ErrPolicy) {
		t.Error(err)
	}
	if _, err := n.Listen("x"); !errors.Is(err, splitter.ErrPolicy) {
		t.Error(err)
	}
	n.Close()
}
