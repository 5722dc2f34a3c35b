//go:build unix

package dht

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What is no file is not waited for.
func TestSavedPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "nodes")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	n := newFabric(time.Now).node(t, Config{Client: true, Saved: pipe})
	if known := n.load(); len(known) != 0 {
		t.Errorf("%d nodes", len(known))
	}
}
