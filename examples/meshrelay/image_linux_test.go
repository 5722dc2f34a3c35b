package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is whom the image runs the program as.
const nobody = 65532

func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(within(t), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// scratch is a root directory with nothing but the image's program in it, and what makes commands that run it there: no
// libraries, no /tmp, as a user without a name who can write to /state alone.
func scratch(t *testing.T) (dir string, inside func(env []string, args ...string) *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root directory")
	}
	dir = t.TempDir()
	command(t, []string{"CONTEXT=" + dir}, "sh", "image.sh")
	if err := os.Chown(filepath.Join(dir, "state"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func(env []string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(within(t), "/meshrelay", args...)
		cmd.Env, cmd.Dir = append(env, "STATE_DIRECTORY=/state"), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
}

// TestFromScratch runs the image's program where there is nothing but it.
func TestFromScratch(t *testing.T) {
	_, inside := scratch(t)
	env := []string{"XDG_CONFIG_HOME=/etc"}
	p := launch(t, inside(env, "run", overWS, "--monitor.listen=127.0.0.1:0", "--log.format=json"), "/state")
	p.waitLog("the relay is ready")
	p.addr()
	if out, err := inside(env, "status").CombinedOutput(); err != nil || !strings.Contains(string(out), "serving") {
		t.Errorf("%v: %s", err, out)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
}

// TestUnit: the systemd unit is in order, and with its environment the settings in /etc are read, by a user who has no home.
func TestUnit(t *testing.T) {
	dir, inside := scratch(t)
	unit, err := programCommand(t, "unit").Output()
	if err != nil {
		t.Fatal(err)
	}
	if systemd, err := exec.LookPath("systemd-analyze"); err == nil {
		path := write(t, filepath.Join(t.TempDir(), "meshrelay.service"), string(unit))
		if out, err := exec.CommandContext(within(t), systemd, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s", err, out)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "etc", "meshrelay.yaml"), "node: {listen: [/ip4/127.0.0.1/tcp/0/ws]}\nmonitor: {listen: 127.0.0.1:0}\nlog: {format: json}\n")
	if err := os.Chmod(filepath.Join(dir, "etc", "meshrelay.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=/"}
	for line := range strings.Lines(string(unit)) {
		if set, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			env = append(env, set)
		}
	}
	launch(t, inside(env, "run"), "/state").waitLog("the relay is ready")
}

// docker returns what runs Docker's commands, at the daemon that is there or at one of the test's own, without a network.
func docker(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	at := func(env ...string) func(args ...string) *exec.Cmd {
		return func(args ...string) *exec.Cmd {
			cmd := exec.CommandContext(within(t), "docker", args...)
			cmd.Env = append(os.Environ(), env...)
			return cmd
		}
	}
	answers := func(docker func(...string) *exec.Cmd) bool {
		out, err := docker("version", "--format", "{{.Server.Os}}").Output()
		return err == nil && strings.TrimSpace(string(out)) == "linux"
	}
	if there := at(); answers(there) {
		return there
	}
	binary, err := exec.LookPath("dockerd")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("no Docker daemon answers, and there is none that could be started: apt-get install docker.io, as root")
	}
	dir, err := os.MkdirTemp("", "dockerd") //nolint:usetesting // a socket needs a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	host := "unix://" + in("sock")
	daemon := exec.CommandContext(within(t), binary, "--host", host, "--data-root", in("data"), "--exec-root", in("exec"), "--pidfile", in("pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")
	var said strings.Builder
	daemon.Stderr = &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the daemon
		defer close(ended)
		_ = daemon.Wait()
	}()
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	own := at("DOCKER_HOST=" + host)
	until(t, "the daemon answers, or can't", func() bool {
		select {
		case <-ended:
			t.Skipf("a Docker daemon can't run here: %s", said.String())
		default:
		}
		return answers(own)
	})
	return own
}

// TestImage builds the image and runs it with a read-only filesystem and no privilege.
func TestImage(t *testing.T) {
	docker := docker(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := docker(args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	name, dir := fmt.Sprintf("meshrelay-test-%d", os.Getpid()), t.TempDir()
	command(t, []string{"CONTEXT=" + dir}, "sh", "image.sh")
	run("build", "--tag", name, dir)
	t.Cleanup(func() {
		_ = docker("rm", "--force", "--volumes", name).Run()
		_ = docker("rmi", "--force", name).Run()
	})
	run("run", "--detach", "--name", name, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none",
		name, "run", overWS)
	until(t, "it serves", func() bool {
		out, err := docker("exec", name, "/meshrelay", "status").Output()
		return err == nil && strings.Contains(string(out), "serving")
	})
	if user := strings.TrimSpace(run("inspect", "--format={{.Config.User}}", name)); user != "65532:65532" {
		t.Errorf("it runs as %s", user)
	}
	run("stop", "--time=70", name)
	if status := strings.TrimSpace(run("inspect", "--format={{.State.ExitCode}}", name)); status != "0" {
		t.Errorf("its exit status is %s: %s", status, run("logs", name))
	}
}
