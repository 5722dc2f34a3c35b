package dns

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKeepMount: when the file below a mount is replaced the mount ends; what is there then is not ours to change, and it
// is told that ours was not put back.
func TestKeepMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root, to mount")
	}
	dir := t.TempDir()
	path, over := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "over")
	write(t, path, "nameserver 192.0.2.1\n", 0o644)
	write(t, over, "nameserver 192.0.2.2\n", 0o644)
	taken, told, ended := make(chan error), make(chan news, 1), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends with ctx
		runtime.LockOSThread() // for good: the thread is not one for others
		s := &System{File: path, every: 5 * time.Millisecond}
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(over, path, "", unix.MS_BIND, ""))
		if err == nil {
			_, err = s.Take(ctx, "mesh0", own)
		}
		if taken <- err; err == nil {
			ended <- s.Keep(ctx, "mesh0", own, func(up []netip.AddrPort, err error) { told <- news{up, err} })
		}
	}()
	if err := <-taken; errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if got := content(t, over); !strings.Contains(got, "nameserver 100.64.1.1\n") {
		t.Error("the test shows nothing:", got)
	}
	replace(t, path, "nameserver 192.0.2.3\n")
	if n := next(t, told); n.err == nil || !strings.Contains(n.err.Error(), "mounted there no more") {
		t.Error(n)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "meshvpn down") {
		t.Error(err)
	}
	if got := content(t, path); got != "nameserver 192.0.2.3\n" {
		t.Error(got)
	}
}

// TestKeepMountBelowLink: what a link leads to may be mounted, as ip netns exec does where /etc/resolv.conf is a link. It
// is that file which is changed; the link is the whole machine's.
func TestKeepMountBelowLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root, to mount")
	}
	dir := t.TempDir()
	path, run, over := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "run.conf"), filepath.Join(dir, "over")
	write(t, run, "nameserver 192.0.2.1\n", 0o644)
	write(t, over, "nameserver 192.0.2.2\n", 0o644)
	if err := os.Symlink("run.conf", path); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { // ends when it has restored
		runtime.LockOSThread() // for good: the thread is not one for others
		s := &System{File: path}
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(over, run, "", unix.MS_BIND, ""))
		var up []netip.AddrPort
		if err == nil {
			up, err = s.Take(t.Context(), "mesh0", own)
		}
		if done <- err; err != nil {
			return
		}
		if len(up) != 1 || up[0].String() != "192.0.2.2:53" {
			t.Error(up)
		}
		<-done
		done <- s.Restore()
	}()
	if err := <-done; errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(path); err != nil || to != "run.conf" || content(t, run) != "nameserver 192.0.2.1\n" || !strings.Contains(content(t, over), "nameserver 100.64.1.1\n") {
		t.Error(to, err, content(t, run), content(t, over))
	}
	done <- nil
	if err := <-done; err != nil || content(t, over) != "nameserver 192.0.2.2\n" {
		t.Error(err, content(t, over))
	}
}

// TestKeepAfterAnother: when another meshvpn that had the file has ended without a word, the one that runs takes it.
func TestKeepAfterAnother(t *testing.T) {
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, marker+"\nnameserver 100.64.9.9\n"+byPrefix+process(other.Process.Pid)+"\n"+wasFile+"0644\n"+wasLine+`"nameserver 192.0.2.53\n"`+"\n", 0o644)
	s := &System{File: path, every: 5 * time.Millisecond}
	if _, err := s.Take(t.Context(), "mesh0", own); err == nil {
		t.Error("it has taken what another has")
	}
	told := make(chan news, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		ended <- s.Keep(ctx, "mesh0", own, func(up []netip.AddrPort, err error) { told <- news{up, err} })
	}()
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	if n := next(t, told); n.err != nil || len(n.upstreams) != 1 || n.upstreams[0].String() != "192.0.2.53:53" {
		t.Error(n)
	}
	cancel()
	if err := <-ended; err != nil || content(t, path) != "nameserver 192.0.2.53\n" {
		t.Error(err, content(t, path))
	}
}

// TestZombie: a process that was killed has ended, also while its parent has not asked for it.
func TestZombie(t *testing.T) {
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Wait() }) // it was killed
	pid := other.Process.Pid
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, marker+"\nnameserver 100.64.9.9\n"+byPrefix+process(pid)+"\n"+wasFile+"0644\n"+wasLine+`"nameserver 192.0.2.53\n"`+"\n", 0o644)
	s := &System{File: path}
	if s.Owner() != pid {
		t.Error("the test shows nothing")
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if mended, err := s.Recover(); !mended || err != nil || content(t, path) != "nameserver 192.0.2.53\n" {
		t.Error(mended, err, content(t, path))
	}
}
