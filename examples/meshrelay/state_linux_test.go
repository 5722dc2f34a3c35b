package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/mesh"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
)

// smallDisk is a directory with 64 KiB of space, what fills it, and what makes room again.
func smallDisk(t *testing.T) (dir string, fill, free func()) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk to be had: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	return dir, func() {
			t.Helper()
			if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}, func() {
			t.Helper()
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
}

// TestFullDisk: a relay that can't keep its key does not start, and leaves nothing half done; one that runs says that it
// can't keep a record, goes on relaying, and takes the next when there is room.
func TestFullDisk(t *testing.T) {
	state, fill, free := smallDisk(t)
	fill()
	args := []string{"run", "--state", state, overWS, "--monitor.listen=127.0.0.1:0", "--log.format=json", "--registry.serve=site", "--registry.keep=file"}
	if status, out := ask(t, args...); status != program.NoSpace || !strings.Contains(out, "no space left on device") {
		t.Errorf("status %d: %s", status, out)
	}
	for _, name := range []string{"key", "passphrase"} {
		if _, err := os.Lstat(filepath.Join(state, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a %s: %v", name, err)
		}
	}
	free()
	p := launch(t, programCommand(t, args...), state)
	p.waitLog("the relay is ready")
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot})
	to := echo(t, server, 1)
	fill()
	c, err := relayed(peerNode(t, &mesh.Node{Bootstrap: boot}), 1).Dial(within(t), to)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := server.Record()
	if err != nil {
		t.Fatal(err)
	}
	dir := &httpregistry.Client{URL: p.web(), HTTPClient: client(t, nil)}
	if err := dir.Publish(within(t), rec); err == nil {
		t.Error("a record was kept where there is no room")
	}
	if said := p.waitLog("registry/http: the directory failed")["err"]; !strings.Contains(said.(string), "no space left on device") {
		t.Error(said)
	}
	if err := greet(c); err != nil {
		t.Errorf("the circuit did not outlive it: %v", err)
	}
	if status, out := ask(t, "status", "--state", state); status != 0 {
		t.Error(out)
	}
	free()
	if err := dir.Publish(within(t), rec); err != nil {
		t.Error("there is room again:", err)
	}
}

// TestLostState: a relay whose state directory was taken away goes on relaying and ends as it should; a second one is kept
// off by the port.
func TestLostState(t *testing.T) {
	p := relayProcess(t, overWS, "--drain.timeout=0s")
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot})
	to := echo(t, server, 1)
	if err := os.RemoveAll(p.state); err != nil {
		t.Fatal(err)
	}
	c, err := relayed(peerNode(t, &mesh.Node{Bootstrap: boot}), 1).Dial(within(t), to)
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(c); err != nil {
		t.Error(err)
	}
	if status, out := ask(t, "status", "--state", p.state); status != program.NotRunning || !strings.Contains(out, "or with another state directory") {
		t.Errorf("status %d: %s", status, out)
	}
	at := strings.Split(p.addr().String(), "/p2p/")[0]
	if status, out := ask(t, "run", "--state", p.state, "--node.listen", at, "--monitor.listen="); status != program.Busy {
		t.Errorf("a second: status %d: %s", status, out)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
}
