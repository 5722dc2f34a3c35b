package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
)

// mistyped is an ID's text with a character changed.
func mistyped(id identity.ID) string {
	text, other := id.String(), "a"
	if text[20] == 'a' {
		other = "b"
	}
	return text[:20] + other + text[21:]
}

// TestSpelled: the doctor takes what proxy and forward take, and means what they mean.
func TestSpelled(t *testing.T) {
	key, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id := key.ID().String()
	for target, want := range map[string]string{
		"ann:80": "ann.mesh:tcp/80", "ann.mesh:80": "ann.mesh:tcp/80", "ann:tcp/80": "ann.mesh:tcp/80", "ann:db": "ann.mesh:tcp/db",
		id + ":80": id + ":tcp/80", id + ".mesh:80": id + ":tcp/80", key.ID().PeerID() + ":80": id + ":tcp/80",
		"ann:vpn-exit": "ann.mesh:vpn-exit", "ann.mesh:vpn-forward": "ann.mesh:vpn-forward",
	} {
		if got, err := spelled(target); err != nil || got != want {
			t.Errorf("%s: %q, want %q: %v", target, got, want, err)
		}
		if strings.Contains(target, "/") || strings.Contains(target, "vpn-") {
			continue
		}
		if got, err := forward.ServiceAddr(target); err != nil || got != want {
			t.Errorf("forward local %s: %q, want %q: %v", target, got, want, err)
		}
	}
	for _, target := range []string{"", "ann", "ann.mesh", "ann:", ":80", "ann:0", "ann:70000", "a b:80", id} {
		if got, err := spelled(target); err == nil {
			t.Errorf("%q: %q", target, got)
		}
	}
	for _, text := range []string{mistyped(key.ID()), id[1:], id + "a", "12D3KooW" + strings.Repeat("x", 44)} {
		_, err := spelled(text + ".mesh:80")
		if _, ok := errors.AsType[*identity.IDError](err); !ok {
			t.Errorf("%s is not told as an ID that is mistyped: %v", text, err)
		}
	}
}
