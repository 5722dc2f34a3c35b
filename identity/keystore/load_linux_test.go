package keystore

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a pipe that nobody writes to would wait for ever.
func TestLoadDoesNotWaitAtAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, passphrase); !errors.Is(err, ErrNotKeystore) {
		t.Errorf("a pipe: %v", err)
	}
}
