package registry_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = registrytest.NewClock().Now()

// A vector is one entry of testdata/record.json, computed by a program that shares no code with this package.
type vector struct {
	Comment, Seed     string
	Sequence, Expires int64
	Addrs             []string
	Capabilities      []string
	Operator          string
	Network, Name     string
	Revoked           bool
	Record            string
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/record.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) < 4 {
		t.Fatalf("only %d vectors", len(vs))
	}
	return vs
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keyOf(t testing.TB, seed string) *identity.Key {
	t.Helper()
	k, err := identity.NewKeyFromSeed(unhex(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fields are what a record says, comparable by cmp.
func fields(r *registry.Record) vector {
	v := vector{Sequence: r.Sequence, Expires: r.Expires, Operator: r.Operator, Network: r.Network, Name: r.Name, Revoked: r.Revoked}
	for _, a := range r.Addrs {
		v.Addrs = append(v.Addrs, a.String())
	}
	v.Capabilities = append(v.Capabilities, r.Capabilities...)
	return v
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Comment, func(t *testing.T) {
			k, want := keyOf(t, v.Seed), unhex(t, v.Record)
			r := &registry.Record{Sequence: v.Sequence, Expires: v.Expires, Operator: v.Operator, Network: v.Network, Name: v.Name, Revoked: v.Revoked}
			for _, a := range v.Addrs {
				r.Addrs = append(r.Addrs, registrytest.Addr(t, a))
			}
			r.Capabilities = slices.Concat(v.Capabilities, v.Capabilities) // Sign sorts, and drops the second
			slices.Reverse(r.Capabilities)
			if err := r.Sign(k); err != nil {
				t.Fatal(err)
			}
			if got := r.Marshal(); !bytes.Equal(got, want) {
				t.Fatalf("encoded\n%x, want\n%x", got, want)
			}
			parsed, err := registry.Parse(want)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.ID != k.ID() {
				t.Errorf("ID %v, want %v", parsed.ID, k.ID())
			}
			v.Comment, v.Seed, v.Record = "", "", ""
			if len(v.Addrs) == 0 {
				v.Addrs = nil
			}
			if len(v.Capabilities) == 0 {
				v.Capabilities = nil
			}
			if diff := cmp.Diff(v, fields(parsed)); diff != "" {
				t.Error(diff)
			}
			if err := parsed.Check(time.UnixMilli(v.Sequence)); err != nil {
				t.Errorf("Check: %v", err)
			}
			if !parsed.Equal(r) || parsed.Newer(r) || r.Newer(parsed) {
				t.Error("what was parsed is not what was signed")
			}
		})
	}
}

// wantError checks the sentinel and the field of a *RecordError.
func wantError(t *testing.T, err, want error, field string) {
	t.Helper()
	var re *registry.RecordError
	if !errors.Is(err, want) || !errors.As(err, &re) || re.Field != field {
		t.Fatalf("error is %v, want %v in %q", err, want, field)
	}
	if len(err.Error()) > 600 {
		t.Errorf("the message has %d bytes", len(err.Error()))
	}
}

func TestSignRefuses(t *testing.T) {
	k := registrytest.Key(t)
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("cap-%03d", i))
		}
		return out
	}
	addr := registrytest.Addr(t, "/ip4/192.0.2.1/tcp/1")
	long := registrytest.Addr(t, "/dns/"+strings.Repeat("a", 300)+"/tcp/1")
	deep := registrytest.Addr(t, strings.Repeat("/ws", registry.MaxComponents))
	for _, tc := range []struct {
		name   string
		change func(r *registry.Record)
		want   error
		field  string
	}{
		{"no sequence", func(r *registry.Record) { r.Sequence = 0 }, registry.ErrMalformed, "sequence"},
		{"negative sequence", func(r *registry.Record) { r.Sequence = -1 }, registry.ErrMalformed, "sequence"},
		{"no expiry", func(r *registry.Record) { r.Expires = 0 }, registry.ErrMalformed, "expires"},
		{"no life", func(r *registry.Record) { r.Expires = r.Sequence }, registry.ErrMalformed, "expires"},
		{"long life", func(r *registry.Record) { r.Expires = r.Sequence + registry.MaxLife.Milliseconds() + 1 }, registry.ErrMalformed, "expires"},
		{"endless life", func(r *registry.Record) { r.Expires = 1<<63 - 1 }, registry.ErrMalformed, "expires"},
		{"17 addresses", func(r *registry.Record) { r.Addrs = slices.Repeat([]multiaddr.Multiaddr{addr}, 17) }, registry.ErrMalformed, "addrs"},
		{"nil address", func(r *registry.Record) { r.Addrs[1] = nil }, registry.ErrMalformed, "addrs[1]"},
		{"hollow address", func(r *registry.Record) { r.Addrs[1] = multiaddr.Multiaddr{{}} }, registry.ErrMalformed, "addrs[1]"},
		{"deep address", func(r *registry.Record) { r.Addrs[1] = append(deep, deep[0]) }, registry.ErrMalformed, "addrs[1]"},
		{"17 capabilities", func(r *registry.Record) { r.Capabilities = many(17) }, registry.ErrMalformed, "capabilities"},
		{"empty capability", func(r *registry.Record) { r.Capabilities = []string{""} }, registry.ErrMalformed, "capabilities[0]"},
		{"long capability", func(r *registry.Record) { r.Capabilities = []string{strings.Repeat("a", 33)} }, registry.ErrMalformed, "capabilities[0]"},
		{"huge capability", func(r *registry.Record) { r.Capabilities = []string{strings.Repeat("a", 1<<20)} }, registry.ErrMalformed, "capabilities[0]"},
		{"upper-case capability", func(r *registry.Record) { r.Capabilities = []string{"a", "reLay"} }, registry.ErrMalformed, "capabilities[1]"},
		{"capability with a space", func(r *registry.Record) { r.Capabilities = []string{"a b"} }, registry.ErrMalformed, "capabilities[0]"},
		{"long operator", func(r *registry.Record) { r.Operator = strings.Repeat("o", 65) }, registry.ErrMalformed, "operator"},
		{"operator with a line end", func(r *registry.Record) { r.Operator = "a\nb" }, registry.ErrMalformed, "operator"},
		{"operator with a C1 control", func(r *registry.Record) { r.Operator = "a\u009bb" }, registry.ErrMalformed, "operator"},
		{"operator not UTF-8", func(r *registry.Record) { r.Operator = "a\xffb" }, registry.ErrMalformed, "operator"},
		{"long network", func(r *registry.Record) { r.Network = strings.Repeat("n", 65) }, registry.ErrMalformed, "network"},
		{"network with a line end", func(r *registry.Record) { r.Network = "a\nb" }, registry.ErrMalformed, "network"},
		{"long name", func(r *registry.Record) { r.Name = strings.Repeat("n", 33) }, registry.ErrMalformed, "name"},
		{"huge name", func(r *registry.Record) { r.Name = strings.Repeat("n", 1<<20) }, registry.ErrMalformed, "name"},
		{"name with a dot", func(r *registry.Record) { r.Name = "a.b" }, registry.ErrMalformed, "name"},
		{"name that begins with a hyphen", func(r *registry.Record) { r.Name = "-a" }, registry.ErrMalformed, "name"},
		{"name that ends with a hyphen", func(r *registry.Record) { r.Name = "a-" }, registry.ErrMalformed, "name"},
		{"revocation with addresses", func(r *registry.Record) { r.Capabilities, r.Operator, r.Revoked = nil, "", true }, registry.ErrMalformed, "revoked"},
		{"revocation with capabilities", func(r *registry.Record) { r.Addrs, r.Operator, r.Revoked = nil, "", true }, registry.ErrMalformed, "revoked"},
		{"revocation with an operator", func(r *registry.Record) { r.Addrs, r.Capabilities, r.Revoked = nil, nil, true }, registry.ErrMalformed, "revoked"},
		{"revocation with a network", func(r *registry.Record) {
			r.Addrs, r.Capabilities, r.Operator, r.Network, r.Revoked = nil, nil, "", "n", true
		}, registry.ErrMalformed, "revoked"},
		{"revocation with a name", func(r *registry.Record) {
			r.Addrs, r.Capabilities, r.Operator, r.Name, r.Revoked = nil, nil, "", "n", true
		}, registry.ErrMalformed, "revoked"},
		{"another's ID", func(r *registry.Record) { r.ID = registrytest.Key(t).ID() }, registry.ErrBadSignature, "id"},
		{"too large", func(r *registry.Record) { r.Addrs = slices.Repeat([]multiaddr.Multiaddr{long}, 16) }, registry.ErrTooLarge, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := registrytest.Draft(t, noon)
			tc.change(r)
			before := fmt.Sprintf("%+v", r)
			wantError(t, r.Sign(k), tc.want, tc.field)
			if after := fmt.Sprintf("%+v", r); before != after {
				t.Errorf("changed from %s to %s", before, after)
			}
			if b := r.Marshal(); b != nil {
				t.Errorf("Marshal gives %x", b)
			}
		})
	}

	// The edges are accepted.
	for name, change := range map[string]func(r *registry.Record){
		"life":         func(r *registry.Record) { r.Expires = r.Sequence + registry.MaxLife.Milliseconds() },
		"addresses":    func(r *registry.Record) { r.Addrs = slices.Repeat([]multiaddr.Multiaddr{addr}, registry.MaxAddrs) },
		"components":   func(r *registry.Record) { r.Addrs[0] = deep },
		"capabilities": func(r *registry.Record) { r.Capabilities = many(registry.MaxCapabilities) },
		"capability":   func(r *registry.Record) { r.Capabilities = []string{strings.Repeat("-", registry.MaxCapability)} },
		"operator":     func(r *registry.Record) { r.Operator = strings.Repeat("é", registry.MaxLabel/2) },
		"network":      func(r *registry.Record) { r.Network = strings.Repeat("é", registry.MaxLabel/2) },
		"name":         func(r *registry.Record) { r.Name = strings.Repeat("0", registry.MaxName) },
		"own ID":       func(r *registry.Record) { r.ID = k.ID() },
	} {
		r := registrytest.Draft(t, noon)
		change(r)
		if err := r.Sign(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The largest record has exactly MaxSize bytes; one byte more is refused.
func TestSizeLimit(t *testing.T) {
	k := registrytest.Key(t)
	r := &registry.Record{Sequence: noon.UnixMilli(), Expires: noon.Add(time.Hour).UnixMilli()}
	for range 15 {
		r.Addrs = append(r.Addrs, registrytest.Addr(t, "/dns/"+strings.Repeat("a", 243)))
	}
	sign := func(last int) (*registry.Record, error) {
		c := r.Clone()
		c.Addrs = append(c.Addrs, registrytest.Addr(t, "/dns/"+strings.Repeat("a", last)))
		return c, c.Sign(k)
	}
	full, err := sign(200)
	if err != nil {
		t.Fatal(err)
	}
	last := 200 + registry.MaxSize - len(full.Marshal())
	if full, err = sign(last); err != nil || len(full.Marshal()) != registry.MaxSize {
		t.Fatalf("%d bytes, %v", len(full.Marshal()), err)
	}
	if _, err := registry.Parse(full.Marshal()); err != nil {
		t.Error(err)
	}
	_, err = sign(last + 1)
	wantError(t, err, registry.ErrTooLarge, "")
	_, err = registry.Parse(make([]byte, registry.MaxSize+1))
	wantError(t, err, registry.ErrTooLarge, "")
}

func TestSignTakesNothingOfTheCallers(t *testing.T) {
	caps := []string{"relay", "exit", "relay"}
	addrs := []multiaddr.Multiaddr{registrytest.Addr(t, "/ip4/192.0.2.1/tcp/1")}
	r := &registry.Record{Sequence: 1, Expires: 2, Addrs: addrs, Capabilities: caps}
	if err := r.Sign(registrytest.Key(t)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(caps, []string{"relay", "exit", "relay"}) {
		t.Errorf("the caller's capabilities became %v", caps)
	}
	caps[0], caps[1] = "x", "x"
	addrs[0] = registrytest.Addr(t, "/ip4/203.0.113.1/tcp/1")
	r.Marshal()[0] = 0
	if err := r.Check(time.UnixMilli(1)); err != nil {
		t.Error(err)
	}
	if !r.Has("exit") || !r.Has(registry.CapRelay) || r.Has("x") {
		t.Errorf("capabilities %v", r.Capabilities)
	}
}

func TestCheck(t *testing.T) {
	k := registrytest.Key(t)
	r := registrytest.Signed(t, k, noon)
	revocation := registrytest.Revocation(t, k, noon)
	for _, tc := range []struct {
		name  string
		r     *registry.Record
		now   time.Time
		want  error
		field string
	}{
		{"as it is made", r, noon, nil, ""},
		{"at the last moment", r, time.UnixMilli(r.Expires - 1), nil, ""},
		{"as it ends", r, time.UnixMilli(r.Expires), registry.ErrExpired, "expires"},
		{"a year later", r, noon.Add(365 * 24 * time.Hour), registry.ErrExpired, "expires"},
		{"10 min ahead", r, noon.Add(-registry.MaxSkew), nil, ""},
		{"beyond 10 min ahead", r, noon.Add(-registry.MaxSkew - time.Millisecond), registry.ErrFuture, "sequence"},
		{"revocation a year later", revocation, noon.Add(365 * 24 * time.Hour), nil, ""},
		{"revocation beyond 10 min ahead", revocation, noon.Add(-registry.MaxSkew - time.Millisecond), registry.ErrFuture, "sequence"},
		{"not signed", registrytest.Draft(t, noon), noon, registry.ErrBadSignature, ""},
		{"copied", r.Clone(), noon, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.r.Check(tc.now); tc.want != nil {
				wantError(t, err, tc.want, tc.field)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
	changed := r.Clone()
	changed.Operator = "mallory"
	wantError(t, changed.Check(noon), registry.ErrBadSignature, "")
	if got := changed.Check(noon).Error(); !strings.Contains(got, "changed after signing") {
		t.Errorf("of a changed record: %s", got)
	}
	if got := registrytest.Draft(t, noon).Check(noon).Error(); !strings.Contains(got, "not signed at all") {
		t.Errorf("of a draft: %s", got)
	}
	if err := changed.Sign(k); err != nil { // signing again is how a record is changed
		t.Fatal(err)
	}
	if err := changed.Check(noon); err != nil {
		t.Error(err)
	}
}

func TestNewer(t *testing.T) {
	k := registrytest.Key(t)
	old, young := registrytest.Signed(t, k, noon), registrytest.Signed(t, k, noon.Add(time.Millisecond))
	twin := registrytest.Draft(t, noon)
	twin.Operator = "twin"
	if err := twin.Sign(k); err != nil {
		t.Fatal(err)
	}
	early, late := registrytest.Revocation(t, k, noon.Add(-time.Hour)), registrytest.Revocation(t, k, noon)
	other := registrytest.Signed(t, registrytest.Key(t), noon.Add(time.Hour))
	for _, tc := range []struct {
		name     string
		r, than  *registry.Record
		want     bool
		bothWays bool // and then the opposite holds the other way round
	}{
		{"than nothing", old, nil, true, false},
		{"than itself", old, old, false, false},
		{"than a copy", old, old.Clone(), false, false},
		{"higher sequence", young, old, true, true},
		{"revocation, made before", early, young, true, true},
		{"later revocation", late, early, true, true},
		{"another peer's", other, old, false, false},
		{"than another peer's", old, other, false, false},
		{"one sequence", twin, old, bytes.Compare(twin.Marshal(), old.Marshal()) > 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.r.Newer(tc.than); got != tc.want {
				t.Errorf("Newer is %v", got)
			}
			if tc.bothWays && tc.than.Newer(tc.r) == tc.want {
				t.Error("the other way round it is the same")
			}
		})
	}
	if old.Equal(nil) || old.Equal(young) || registrytest.Draft(t, noon).Equal(registrytest.Draft(t, noon)) {
		t.Error("Equal holds for what is not one signed record")
	}
}

func TestStandingString(t *testing.T) {
	for s, want := range map[registry.Standing]string{registry.Unknown: "unknown", registry.Active: "active",
		registry.Expired: "expired", registry.Revoked: "revoked", 9: "standing(9)"} {
		if s.String() != want {
			t.Errorf("%q, want %q", s, want)
		}
	}
	if (*new(registry.Standing)) != registry.Unknown {
		t.Error("the zero standing admits")
	}
}

func TestErrorText(t *testing.T) {
	k := keyOf(t, vectors(t)[0].Seed)
	r := registrytest.Draft(t, noon)
	r.Expires = r.Sequence + 1000*registry.MaxLife.Milliseconds()
	err := r.Sign(k)
	want := "registry: sign record of " + k.ID().String() +
		": expires: malformed record: a life of 172800000000 ms, and at most 172800000 (48h0m0s) is allowed"
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func ExampleRecord() {
	key, err := identity.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	addr, err := multiaddr.NewMultiaddr("/dns4/relay.example/tcp/443/tls/ws")
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	r := &registry.Record{
		Sequence:     now.UnixMilli(),
		Expires:      now.Add(24 * time.Hour).UnixMilli(),
		Addrs:        []multiaddr.Multiaddr{addr},
		Capabilities: []string{registry.CapRelay},
	}
	if err := r.Sign(key); err != nil {
		fmt.Println(err)
		return
	}
	got, err := registry.Parse(r.Marshal()) // on another machine
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got.ID == key.ID(), got.Addrs[0], got.Check(now))
	// Output: true /dns4/relay.example/tcp/443/tls/ws <nil>
}
