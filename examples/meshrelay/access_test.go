package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

func newID(t testing.TB, n byte) identity.ID {
	t.Helper()
	k, err := identity.NewKeyFromSeed(append(make([]byte, 31), n))
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

func TestAccess(t *testing.T) {
	a, b := newID(t, 1), newID(t, 2)
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "ids"), "# friends\n\n  "+a.String()+"  # ann\n"+b.PeerID()+"\n")
	empty := write(t, filepath.Join(dir, "empty"), "# nobody\n")
	for name, tt := range map[string]struct {
		s         relaySettings
		ask, a, b bool
	}{
		"everybody":       {relaySettings{}, false, true, true},
		"one":             {relaySettings{Allow: []identity.ID{a}}, true, true, false},
		"all but one":     {relaySettings{Deny: []identity.ID{a}}, true, false, true},
		"both":            {relaySettings{Allow: []identity.ID{a}, Deny: []identity.ID{a}}, true, false, false},
		"of a file":       {relaySettings{AllowFile: file}, true, true, true},
		"nobody":          {relaySettings{AllowFile: empty}, true, false, false},
		"all but a file":  {relaySettings{DenyFile: file}, true, false, false},
		"an empty denial": {relaySettings{DenyFile: empty}, false, true, true},
	} {
		got, err := newAccess(&tt.s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (got.ask() != nil) != tt.ask || got.allows(a) != tt.a || got.allows(b) != tt.b {
			t.Errorf("%s: %v %v", name, got.allows(a), got.allows(b))
		}
	}
	bad := write(t, filepath.Join(dir, "bad"), a.String()+"\n\nann\n")
	large := write(t, filepath.Join(dir, "large"), strings.Repeat("#", maxIDs+1))
	for path, want := range map[string]string{bad: bad + ":3: ", large: "is it the right file?", filepath.Join(dir, "none"): "no such file"} {
		if _, err := newAccess(&relaySettings{DenyFile: path}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "relay.deny-file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzIDs: a list that is read is one ID for each line that has one, and survives being written down.
func FuzzIDs(f *testing.F) {
	a, b := newID(f, 1), newID(f, 2)
	for _, s := range []string{"", "# x", a.String(), a.PeerID() + "\r\n" + b.String() + " # b\n", a.String() + " " + b.String(), "ann\n", "\x00", a.String()[:20]} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ids, err := parseIDs(in)
		if err != nil {
			return
		}
		var text strings.Builder
		for _, id := range ids {
			text.WriteString(id.String() + "\n")
		}
		again, err := parseIDs([]byte(text.String()))
		if err != nil || len(again) != len(ids) {
			t.Fatalf("%d IDs, and then %d: %v", len(ids), len(again), err)
		}
		for i := range ids {
			if ids[i] != again[i] {
				t.Fatal("another ID")
			}
		}
	})
}
