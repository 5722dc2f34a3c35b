package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
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
	told, end := keep(t, &System{File: path})
	replace(t, path, "nameserver 127.0.0.53\nsearch example.org\n") // it is not told of, as what comes next shows
	replace(t, path, "nameserver 192.0.2.1\n")
	if n := next(t, told); n.err != nil || fmt.Sprint(n.upstreams) != "[192.0.2.1:53]" || !strings.Contains(content(t, path), "\nnameserver 100.64.1.1\n") {
		t.Error(n, content(t, path))
	}
	if err := end(); err != nil || content(t, path) != "nameserver 192.0.2.1\n" {
		t.Error(err, content(t, path))
	}
	s := &System{File: path, told: true}
	write(t, path, "nameserver 127.0.0.53\n", 0o644)
	if s.differs(s.look()) {
		t.Error("what systemd-resolved writes is taken for another's")
	}
}

// TestKeepHalf: a file that is being written is not taken over before it stays as it is.
func TestKeepHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		write(t, path, "nameserver 192.0.2.1\n", 0o644)
		s := &System{File: path}
		if _, err := s.Take(t.Context(), "mesh0", own); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		told, ended := make(chan news, 10), make(chan error, 1)
		go func() { // ends with ctx
			ended <- s.Keep(ctx, "mesh0", own, func(up []netip.AddrPort, err error) { told <- news{up, err} })
		}()
		time.Sleep(lookEvery / 2)
		for _, text := range []string{"", "name", "nameserver 192.0.2.9\n"} {
			write(t, path, text, 0o644)
			time.Sleep(lookEvery)
		}
		time.Sleep(lookEvery)
		if n := <-told; n.err != nil || fmt.Sprint(n.upstreams) != "[192.0.2.9:53]" || len(told) > 0 {
			t.Error(n, len(told))
		}
		cancel()
		if err := <-ended; err != nil || content(t, path) != "nameserver 192.0.2.9\n" {
			t.Error(err, content(t, path))
		}
	})
}

// TestKeepEdited: what another adds to our file is dropped, and that is told; what was there before comes back.
func TestKeepEdited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\n", 0o644)
	told, end := keep(t, &System{File: path})
	replace(t, path, content(t, path)+"nameserver 192.0.2.9\n")
	if n := next(t, told); !errors.Is(n.err, ErrEdited) || fmt.Sprint(n.upstreams) != "[192.0.2.1:53]" || strings.Contains(content(t, path), "192.0.2.9") {
		t.Error(n, content(t, path))
	}
	if err := end(); err != nil || content(t, path) != "nameserver 192.0.2.1\n" {
		t.Error(err, content(t, path))
	}
}

// TestKeepLink: the servers that a link led to are those of today, and the link is back at the end.
func TestKeepLink(t *testing.T) {
	dir := t.TempDir()
	path, run := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "run.conf")
	write(t, run, "nameserver 192.0.2.1\n", 0o644)
	if err := os.Symlink("run.conf", path); err != nil {
		t.Fatal(err)
	}
	told, end := keep(t, &System{File: path})
	replace(t, run, "nameserver 192.0.2.2\n")
	if n := next(t, told); n.err != nil || fmt.Sprint(n.upstreams) != "[192.0.2.2:53]" || !strings.Contains(content(t, path), "\nnameserver 100.64.1.1\n") {
		t.Error(n, content(t, path))
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(path); err != nil || to != "run.conf" || content(t, run) != "nameserver 192.0.2.2\n" {
		t.Error(to, err, content(t, run))
	}
}
