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
