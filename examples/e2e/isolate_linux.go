package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVariable tells the process inside which directory is its own.
const insideVariable = "SPLITMESH_E2E_INSIDE"

// ours is a directory that only the process inside and its children see, and that is gone with them. Ordinary users may
// go there, and names of sockets in it are short.
const ours = "/run/e2e"

// isolated runs this program again as the first process of a PID namespace, with mounts of its own. When that process
// ends, the kernel ends all that it and its children have started, and with the last of them the network namespaces go,
// whose names are in a directory that only they see. The kernel ends it when this process is killed. What is large is in
// a directory that this process removes.
func isolated(args []string) (status int, err error) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	runtime.LockOSThread() // the process inside dies with the thread that began it
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("making namespaces: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process
	for n := 0; ; {
		select {
		case <-signals:
			if n++; n == 1 {
				_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			} else {
				_ = cmd.Process.Kill()
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			return max(cmd.ProcessState.ExitCode(), btoi(err != nil)), nil
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// programs are where what was built is.
type programs struct {
	root                    string // of the tree
	meshrelay, meshvpn, e2e string
}

// prepare has mounts be this process's own, and builds what is to be run.
func prepare(ctx context.Context) (*programs, error) {
	if err := os.Unsetenv(insideVariable); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0}, // for names of network namespaces, and without the sockets of this machine's services
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return nil, fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	for _, dir := range []string{"/run/netns", "/run/sshd", ours} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &programs{meshrelay: ours + "/meshrelay", meshvpn: ours + "/meshvpn", e2e: ours + "/e2e"}
	if p.root, err = treeRoot(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "# building")
	for name, path := range map[string]string{"meshrelay": p.meshrelay, "meshvpn": p.meshvpn} {
		if err := build(ctx, p.root, "./examples/"+name, path); err != nil {
			return nil, err
		}
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(p.e2e, program, 0o755) //nolint:gosec // it is a program
}
