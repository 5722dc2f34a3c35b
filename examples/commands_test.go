package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCommandPages: docs/commands is what the programs say of themselves; make commands
// writes it anew.
func TestCommandPages(t *testing.T) {
	kept, dir := filepath.Join("..", "docs", "commands"), t.TempDir()
	for _, p := range []string{"meshrelay", "meshvpn", "meshchat", "meshlocal"} {
		if out, err := exec.CommandContext(t.Context(), "go", "run", "./"+p, "docs", dir).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", p, err, out)
		}
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made {
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(kept, f.Name())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the program says: run make commands", f.Name())
		}
	}
	if old, err := os.ReadDir(kept); err != nil || len(old) != len(made)+1 { // and README.md
		t.Errorf("%d pages, and %d are made: %v", len(old)-1, len(made), err)
	}
}
