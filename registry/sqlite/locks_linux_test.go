package sqlite_test

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/splitmesh/splitmesh/registry/sqlite"
)

func init() { roles["locks"] = locks }

// locks prints whether another process has a lock on the file.
func locks(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	l := syscall.Flock_t{Type: syscall.F_WRLCK} // of the whole file
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l); err != nil {
		return err
	}
	fmt.Fprint(os.Stdout, l.Type != syscall.F_UNLCK)
	return nil
}

// A process that closes a file loses all its locks on it, those too that SQLite took by another opening. Who opens the
// directory a second time does not take the first one's locks away.
func TestOpenKeepsLocks(t *testing.T) {
	path := newPath(t)
	open(t, path, sqlite.Options{})
	for range 2 {
		cmd, stdout, stderr := child(t, "locks", path)
		locked, err := io.ReadAll(stdout)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		if string(locked) != "true" {
			t.Fatalf("locked: %s", locked)
		}
		open(t, path, sqlite.Options{})
	}
}
