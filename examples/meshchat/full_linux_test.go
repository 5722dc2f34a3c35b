package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// TestFullDisk: whatever is done on a full disk says so, by its exit status too, and what to do; then there is all as it was.
func TestFullDisk(t *testing.T) {
	disk := stateDir(t)
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", disk).CombinedOutput(); err != nil {
		t.Skipf("no small disk to be had: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	env := append(environment(t, "Ann", ""), "STATE_DIRECTORY="+filepath.Join(disk, "state"))
	_, bootstrap := relays(t, 1, 0) // else it is said that nobody can reach him
	invitation, status := once(t, environment(t, "Bob", bootstrap), "invite")
	if status != 0 {
		t.Fatal(invitation)
	}
	if out, status := once(t, env, "join", invitation); status != 0 {
		t.Fatal(status, out)
	}
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"send", "bob", "hello"}, {"contacts"}, {"run", "--plain"}} {
		if out, status := once(t, env, args...); status != program.NoSpace || !strings.Contains(out, "no space left on device: make room") {
			t.Errorf("%v: %d, %s", args, status, out)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if out, status := once(t, env, "send", "bob", "hello"); status != 0 {
		t.Error(status, out)
	}
}
