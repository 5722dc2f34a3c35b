package invite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry/file"
	"github.com/splitmesh/splitmesh/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newID(t testing.TB) identity.ID {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

func addr(t testing.TB, text string, id identity.ID) multiaddr.Multiaddr {
	t.Helper()
	a, err := transport.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return transport.WithPeer(a, id)
}

func sample(t testing.TB) *invite.Invitation {
	id := newID(t)
	return &invite.Invitation{
		Peer: id, Name: "ann", Addrs: []multiaddr.Multiaddr{addr(t, "/ip4/192.0.2.1/tcp/4001/ws", id), addr(t, "/dns4/relay.example.com/tcp/443/wss", newID(t))},
		NetworkKey: &[32]byte{1, 2, 3}, Secret: invite.NewSecret(), Ends: time.Unix(1_900_000_000, 0),
	}
}

func textOf(t testing.TB, i *invite.Invitation) string {
	t.Helper()
	s, err := i.Text()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestText(t *testing.T) {
	full := sample(t)
	bare := &invite.Invitation{Peer: full.Peer, Secret: full.Secret, Ends: full.Ends}
	for _, want := range []*invite.Invitation{full, bare} {
		text := textOf(t, want)
		for _, spelled := range []string{text, strings.ToUpper(text), " " + text[:20] + "\r\n " + text[20:] + "\n"} {
			got, err := invite.Parse(spelled)
			if err != nil {
				t.Fatal(err)
			}
			if textOf(t, got) != text || got.Peer != want.Peer || got.Name != want.Name || got.Secret != want.Secret || !got.Ends.Equal(want.Ends) || len(got.Addrs) != len(want.Addrs) {
				t.Errorf("%#v", got)
			}
		}
	}
}

// TestAltered: every character counts, and the end.
func TestAltered(t *testing.T) {
	text := textOf(t, sample(t))
	for i := range text {
		for _, c := range []byte("a7") {
			altered := text[:i] + string(c) + text[i+1:]
			if _, err := invite.Parse(altered); err == nil && altered != text {
				t.Fatalf("character %d may be %c", i, c)
			}
		}
		if _, err := invite.Parse(text[:i]); err == nil {
			t.Fatalf("%d characters are enough", i)
		}
	}
	for in, want := range map[string]error{
		"": invite.ErrNoInvitation, "meshvpn": invite.ErrNoInvitation, "meshvpn1": invite.ErrChecksum, "meshvpn2abc": invite.ErrVersion, "meshvpn0abc": invite.ErrNoInvitation,
		"https://example.com": invite.ErrNoInvitation, strings.Repeat("a", 1<<20): invite.ErrNoInvitation, "Meshvpn" + text[7:]: invite.ErrNoInvitation, text + "a": invite.ErrChecksum,
	} {
		if _, err := invite.Parse(in); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", in, err, want)
		}
	}
}

// TestNotMade: what Parse would refuse is not written.
func TestNotMade(t *testing.T) {
	for name, spoil := range map[string]func(*invite.Invitation){
		"nobody":         func(i *invite.Invitation) { i.Peer = identity.ID{} },
		"a bad name":     func(i *invite.Invitation) { i.Name = "Not A Name" },
		"many addresses": func(i *invite.Invitation) { i.Addrs = append(i.Addrs, make([]multiaddr.Multiaddr, 9)...) },
		"whose address":  func(i *invite.Invitation) { i.Addrs[0] = multiaddr.StringCast("/ip4/192.0.2.1/tcp/1") },
		"no such time":   func(i *invite.Invitation) { i.Ends = time.Time{} },
	} {
		i := sample(t)
		spoil(i)
		if text, err := i.Text(); !errors.Is(err, invite.ErrContent) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestSecret: printing shows none.
func TestSecret(t *testing.T) {
	i := sample(t)
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "i", *i, "p", i)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&b, verb+verb, i, *i)
	}
	for _, secret := range []string{fmt.Sprintf("%x", i.Secret[:4]), fmt.Sprint(i.Secret)[1:12], "1 2 3 0", "010203"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q is in %s", secret, &b)
		}
	}
}

func FuzzParse(f *testing.F) {
	i := sample(f)
	f.Add(textOf(f, i))
	i.NetworkKey, i.Addrs, i.Name = nil, nil, ""
	f.Add(strings.ToUpper(textOf(f, i)))
	f.Add("meshvpn1")
	f.Fuzz(func(t *testing.T, in string) {
		i, err := invite.Parse(in)
		if err != nil {
			return
		}
		text, err := i.Text()
		if err != nil || text != strings.ToLower(strings.Join(strings.Fields(in), "")) {
			t.Errorf("%q is taken for %q: %v", in, text, err)
		}
	})
}

// FuzzContent is FuzzParse behind the checksum.
func FuzzContent(f *testing.F) {
	content := func(i *invite.Invitation) []byte {
		b, err := invite.Decode(textOf(f, i))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	i := sample(f)
	f.Add(content(i))
	f.Add(append([]byte{0x98, 0x06}, content(i)[1:]...)) // the array's length in two bytes: another text of the same
	i.NetworkKey, i.Addrs, i.Name = nil, nil, ""
	f.Add(content(i))
	f.Add([]byte{0x86, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		text := invite.Encode(b)
		i, err := invite.Parse(text)
		if err != nil {
			return
		}
		if again, err := i.Text(); err != nil || again != text {
			t.Errorf("%q is written %q: %v", text, again, err)
		}
	})
}

func TestRemember(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	ann, bob := newID(t), newID(t)
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# mine\n" + ann.String() + " ann # friend") // and no newline
	at := addr(t, "/ip4/192.0.2.1/tcp/1/ws", bob)
	for range 2 {
		if err := invite.Remember(path, bob, "bob", []multiaddr.Multiaddr{at, at}[:1]); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	want := "# mine\n" + ann.String() + " ann # friend\n" + bob.String() + " bob\n" + at.String() + "\n"
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	taken, ok := errors.AsType[*invite.TakenError](invite.Remember(path, bob, "ann", nil))
	if !ok || taken.Peer != ann {
		t.Error("ann is bob, too:", taken)
	}
	if name, err := invite.RememberAs(path, newID(t), "ann", nil); err != nil || name != "ann-2" {
		t.Error(name, err)
	}
	if name, err := invite.RememberAs(path, newID(t), "ann", nil); err != nil || name != "ann-3" {
		t.Error(name, err)
	}
	write("nonsense\n")
	if _, ok := errors.AsType[*file.HostsError](invite.Remember(path, bob, "bob", nil)); !ok {
		t.Error("a file with an error is added to")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "nonsense\n" {
		t.Error(string(b), err)
	}
}

// TestJoin: over the mesh. The secret decides, and the key of who has it.
func TestJoin(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	inviter := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}}
	defer inviter.Close()
	l, err := inviter.Listen(invite.Service)
	if err != nil {
		t.Fatal(err)
	}
	store, hosts := &invite.Store{Dir: filepath.Join(dir, "invitations")}, filepath.Join(dir, "hosts")
	serving, end := context.WithCancel(ctx)
	ended := make(chan error)
	go func() {
		ended <- (&invite.Inviter{Store: store, Hosts: hosts, Log: slog.New(slog.DiscardHandler)}).Serve(serving, l)
	}()
	defer func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	join := func(secret invite.Secret, n *mesh.Node) (string, error) {
		t.Helper()
		c, err := n.Dial(ctx, inviter.ID().String()+":"+invite.Service)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return invite.Introduce(ctx, c, secret)
	}
	node := func() *mesh.Node {
		n := &mesh.Node{Bootstrap: inviter.Addrs()}
		t.Cleanup(func() { n.Close() })
		return n
	}
	secret, old := invite.NewSecret(), invite.NewSecret()
	if err := store.Add(secret, time.Now().Add(time.Hour), "bob"); err != nil {
		t.Fatal(err)
	}
	if err := store.Add(old, time.Now().Add(-time.Second), ""); err != nil {
		t.Fatal(err)
	}
	b, c := node(), node()
	for _, tt := range []struct {
		name, want string
		secret     invite.Secret
		node       *mesh.Node
	}{
		{"as invited", "bob", secret, b},
		{"again", "bob", secret, b},
		{"replayed", "", secret, c},
		{"guessed", "", invite.NewSecret(), c},
		{"expired", "", old, c},
	} {
		got, err := join(tt.secret, tt.node)
		if got != tt.want || tt.want == "" && !errors.Is(err, invite.ErrRefused) || tt.want != "" && err != nil {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	h := &file.Hosts{Path: hosts}
	if id, ok := h.Petname("bob"); !ok || id != b.ID() {
		t.Error("bob is", id)
	}
	if p := h.Peers(); len(p) != 1 {
		t.Error(p)
	}
	// Many who say nothing are not in the way of one who does.
	for range 200 {
		conn, err := c.Dial(ctx, inviter.ID().String()+":"+invite.Service)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if got, err := join(secret, b); got != "bob" {
		t.Error("beside the silent:", got, err)
	}
	// What is no introduction is not answered.
	conn, err := c.Dial(ctx, inviter.ID().String()+":"+invite.Service)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var answer any
	if err := forward.Ask(ctx, conn, "hello", &answer); err == nil {
		t.Error(answer)
	}
}
