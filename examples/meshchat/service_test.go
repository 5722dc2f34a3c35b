package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asks runs one command, and wants its status and what it says.
func asks(t *testing.T, env []string, status int, want string, args ...string) {
	t.Helper()
	if out, got := once(t, env, args...); got != status || !strings.Contains(out, want) {
		t.Errorf("%q: %d, want %d: %s", args, got, status, out)
	}
}

// TestService: what runs in the background shows nothing to anybody who did not ask, and commands have the statuses that
// they have without it. A doctor asks it; without it he knows what the invitation said.
func TestService(t *testing.T) {
	_, bootstrap := relays(t, 2, 0)
	annEnv, bobEnv := environment(t, "Ann", bootstrap), environment(t, "Bob", "")
	invitation, status := once(t, annEnv, "invite")
	if status != 0 {
		t.Fatal(status, invitation)
	}
	asks(t, bobEnv, 0, "ann is a contact", "join", invitation)
	ann, bob := start(t, annEnv, "--background"), startPlain(t, bobEnv)
	bob.types("/msg ann are you there?")
	bob.says("* to ann", "delivered")
	asks(t, annEnv, 0, "bob   contact  online  1", "contacts")
	asks(t, annEnv, 0, "[", "history", "bob")
	bob.says("* to ann", "read") // and not before
	bob.mu.Lock()
	said := bob.lines
	bob.mu.Unlock()
	for _, l := range said {
		if strings.Contains(l, "delivered") {
			break
		}
		if strings.Contains(l, "read") {
			t.Error("it is read before anybody asked:", l)
		}
	}
	asks(t, annEnv, 0, "The service is within reach.", "doctor", "bob")
	asks(t, annEnv, 1, "unknown service", "doctor", "bob:other")
	asks(t, annEnv, 1, "no contact, request or room is called so", "doctor", "nobody")
	asks(t, annEnv, 1, "no contact, request or room is called so", "send", "nobody", "x")
	asks(t, annEnv, 2, "there is no /nothing", "do", "nothing")

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	offer := exec.CommandContext(t.Context(), executable(t), "file", "bob", "notes.txt")
	offer.Env, offer.Dir = annEnv, dir
	if out, err := offer.CombinedOutput(); err != nil {
		t.Error(string(out), err)
	}
	bob.says("file 1 from ann: notes.txt, 5 B: offered")

	bob.types("/msg ann " + strings.Repeat("x", 70<<10))
	bob.says("! a line of over 65536 bytes is not obeyed")
	bob.types("/me")
	bob.says("nick   Bob")
	if err := bob.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-bob.ended
	asks(t, bobEnv, 0, "The service is within reach.", "doctor", "ann")
	if len(ann.lines) != 0 {
		t.Errorf("%q", ann.lines)
	}
}
