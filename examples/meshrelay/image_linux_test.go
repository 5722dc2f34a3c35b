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

// TestFromScratch runs the image's program where there is nothing but it: no libraries, no /etc, no /tmp, as a user without
// a name who can write to its state alone.
func TestFromScratch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root directory")
	}
	dir := t.TempDir()
	command(t, []string{"CONTEXT=" + dir}, "sh", "image.sh")
	state := filepath.Join(dir, "state")
	if err := os.Chown(state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(within(t), "/meshrelay", args...)
		cmd.Env, cmd.Dir = []string{"STATE_DIRECTORY=/state", "XDG_CONFIG_HOME=/etc"}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	p := launch(t, inside("run", overWS, "--monitor.listen=127.0.0.1:0", "--log.format=json"), "/state")
	p.waitLog("the relay is ready")
	p.addr()
	if out, err := inside("status").CombinedOutput(); err != nil || !strings.Contains(string(out), "serving") {
		t.Errorf("%v: %s", err, out)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
}

// TestImage builds the image and runs it with a read-only filesystem and no privilege.
func TestImage(t *testing.T) {
	if out, err := exec.CommandContext(within(t), "docker", "version", "--format", "{{.Server.Os}}").Output(); err != nil || strings.TrimSpace(string(out)) != "linux" {
		t.Skip("no Docker daemon answers")
	}
	name := fmt.Sprintf("meshrelay-test-%d", os.Getpid())
	docker := func(args ...string) string { t.Helper(); return command(t, nil, "docker", args...) }
	command(t, nil, "sh", "image.sh", name)
	t.Cleanup(func() {
		_ = exec.Command("docker", "rm", "--force", "--volumes", name).Run()
		_ = exec.Command("docker", "rmi", "--force", name).Run()
	})
	docker("run", "--detach", "--name", name, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none",
		name, "run", overWS)
	until(t, "it serves", func() bool {
		out, err := exec.CommandContext(within(t), "docker", "exec", name, "/meshrelay", "status").Output()
		return err == nil && strings.Contains(string(out), "serving")
	})
	docker("stop", "--time=70", name)
	if status := strings.TrimSpace(docker("inspect", "--format={{.State.ExitCode}}", name)); status != "0" {
		t.Errorf("its exit status is %s: %s", status, docker("logs", name))
	}
}
