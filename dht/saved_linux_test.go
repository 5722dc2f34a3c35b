package dht

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Opening a pipe that nobody writes to would wait for ever, and the node with it.
func TestSavedIsPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	n := newFabric(time.Now).node(t, Config{Saved: path, Client: true})
	if got := n.load(); len(got) != 0 {
		t.Errorf("%d nodes came from a pipe", len(got))
	}
}
