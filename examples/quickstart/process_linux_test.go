package main

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// endless starts the program, with more to send than it ever will, as the leader
// of a process group, and returns once bytes arrive, with the processes that it
// started.
func endless(t *testing.T) (cmd *exec.Cmd, stdout *strings.Builder, started []int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, "-size", "1TiB", "-kill=false")
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout = new(strings.Builder)
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	process := regexp.MustCompile(` process (\d+) `)
	for lines.Scan() {
		if m := process.FindStringSubmatch(lines.Text()); m != nil {
			pid, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			started = append(started, pid)
		}
		if strings.Contains(lines.Text(), "MiB/s") {
			break
		}
	}
	if len(started) != 6 {
		t.Fatalf("the program started %v, want six processes", started)
	}
	return cmd, stdout, started
}

// gone waits until a process has ended, or never has been.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	const patience = 20_000 // ms
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
	}
	if n != 1 || err != nil {
		t.Errorf("process %d lives on: %d, %v", pid, n, err)
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// TestInterrupt ends the program in the midst of things and looks for what is left.
func TestInterrupt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		group  bool // as a terminal does it: every process gets the signal
		signal syscall.Signal
	}{
		{"Ctrl-C", true, syscall.SIGINT},
		{"SIGINT", false, syscall.SIGINT},
		{"SIGTERM", false, syscall.SIGTERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, stdout, started := endless(t)
			to := cmd.Process.Pid
			if tt.group {
				to = -to
			}
			if err := syscall.Kill(to, tt.signal); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != statusInterrupted || stdout.String() != "FAIL: interrupted\n" {
				t.Errorf("status %d, %q", got, stdout)
			}
			for _, pid := range started {
				if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
					t.Errorf("process %d is left: %v", pid, err)
				}
			}
		})
	}
	t.Run("SIGKILL", func(t *testing.T) {
		cmd, _, started := endless(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		for _, pid := range started {
			gone(t, pid)
		}
	})
}
