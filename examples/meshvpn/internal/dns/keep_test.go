package dns

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A news is what Keep has told.
type news struct {
	upstreams []netip.AddrPort
	err       error
}

// keep has the system ask us until end, which returns what Keep did.
func keep(t *testing.T, s *System) (told <-chan news, end func() error) {
	t.Helper()
	s.every = 5 * time.Millisecond
	if _, err := s.Take(t.Context(), "mesh0", own); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	all, ended := make(chan news, 100), make(chan error, 1)
	go func() { // ends with end
		ended <- s.Keep(ctx, "mesh0", own, func(up []netip.AddrPort, err error) { all <- news{up, err} })
	}()
	return all, func() error {
		cancel()
		return <-ended
	}
}

func next(t *testing.T, told <-chan news) news {
	t.Helper()
	select {
	case n := <-told:
		return n
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
		return news{}
	}
}

// replace is how a DHCP client writes the file.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text, 0o644)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestKeep: what another program writes is taken over, and put back at the end; who does so again and again is let be.
func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\n", 0o644)
	told, end := keep(t, &System{File: path})
	var text string
	for i := range maxTaken {
		text = fmt.Sprintf("# by another\nnameserver 192.0.2.%d\n", i+2)
		replace(t, path, text)
		n := next(t, told)
		if n.err != nil || fmt.Sprint(n.upstreams) != fmt.Sprintf("[192.0.2.%d:53]", i+2) {
			t.Error(i, n)
		}
		if got := content(t, path); !strings.Contains(got, "\nnameserver 100.64.1.1\n") {
			t.Error(i, got)
		}
	}
	if err := end(); err != nil || content(t, path) != text {
		t.Error(err, content(t, path))
	}

	told, end = keep(t, &System{File: path})
	for i := range maxTaken + 1 {
		text = fmt.Sprintf("nameserver 198.51.100.%d\n", i+1)
		replace(t, path, text)
		if n := next(t, told); (n.err != nil) != (i == maxTaken) {
			t.Error(i, n)
		}
	}
	if content(t, path) != text {
		t.Error(content(t, path))
	}
	if err := end(); err != nil || content(t, path) != text {
		t.Error(err, content(t, path))
	}
}

// TestKeepRemoved: a file that is removed is written again, and not there at the end.
func TestKeepRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\n", 0o644)
	told, end := keep(t, &System{File: path})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if n := next(t, told); n.err != nil || len(n.upstreams) > 0 {
		t.Error(n)
	}
	if got := content(t, path); !strings.Contains(got, "\nnameserver 100.64.1.1\n") {
		t.Error(got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error(content(t, path))
	}
}

// TestKeepResolved: where systemd-resolved asks us, it may write its file; when another takes its place there, the file
// has us.
func TestKeepResolved(t *testing.T) {
	resolvectlSays(t, 0)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 127.0.0.53\n", 0o644)
	s := &System{File: path}
	if _, err := s.Take(t.Context(), "mesh0", own); err != nil {
		t.Fatal(err)
	}
	replace(t, path, "nameserver 127.0.0.53\nsearch example.org\n")
	if s.differs() {
		t.Error("what systemd-resolved writes is taken for another's")
	}
	replace(t, path, "nameserver 192.0.2.1\n")
	if !s.differs() {
		t.Error("it is not noticed that programs ask another")
	}
}
