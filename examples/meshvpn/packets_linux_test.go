package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// TestWithoutDevice: an ordinary user reaches the ports of a peer that is up, as far as its rules allow.
func TestWithoutDevice(t *testing.T) {
	a, b := newMachine(t, "a"), newMachine(t, "b")
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not there")
	}
	link(a, "192.0.2.1/24", b, "192.0.2.2/24", "cable")
	a.settings = []string{"--node.listen", "/ip4/192.0.2.1/tcp/4001/ws", "--rules", "allow bob tcp 80 82"}
	a.begin()

	state := dir(t)
	hosts := a.id.String() + " ann\n/ip4/192.0.2.1/tcp/4001/ws/p2p/" + a.id.String() + "\n"
	if err := os.WriteFile(filepath.Join(state, "hosts"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	user := func(args ...string) *running {
		inside := command(t, append(args, "--state", state)...)
		cmd := b.command(append([]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"}, inside.Args...)...)
		cmd.Env = inside.Env
		return begin(t, cmd)
	}
	bob, err := identity.ParseID(word(user("serve", "1", "--allow-all").line(t)))
	if err != nil {
		t.Fatal(err)
	}
	a.knows(map[string]*machine{"bob": {id: bob}})
	for _, at := range []string{net.JoinHostPort(a.v6, "80"), net.JoinHostPort(a.v6, "81"), net.JoinHostPort(a.v4, "82")} {
		l := a.listen(at)
		s := &http.Server{Handler: http.NotFoundHandler()}
		go s.Serve(l) // ends with Close
		t.Cleanup(func() { s.Close() })
	}
	local := user("forward", "local", "8080", "ann:80")
	local.line(t)
	proxying := user("proxy", "--socks", "127.0.0.1:1080", "--http", "")
	proxying.line(t)
	get := func(args ...string) (string, error) {
		out, err := b.command(append([]string{curl, "-sS", "--max-time", "60", "--noproxy", "127.0.0.1"}, args...)...).CombinedOutput()
		return string(out), err
	}
	b.until("proxy", func() error { // until the rules know bob
		_, err := get("--proxy", "socks5h://127.0.0.1:1080", "--noproxy", "", "http://ann.mesh/")
		return err
	})
	if out, err := get("--proxy", "socks5h://127.0.0.1:1080", "--noproxy", "", "http://ann.mesh:82/"); err != nil || !strings.Contains(out, "404") {
		t.Error("a server that knows IPv4 alone:", out, err)
	}
	if out, err := get("http://127.0.0.1:8080/"); err != nil || !strings.Contains(out, "404") {
		t.Error("forward local:", out, err)
	}
	if out, err := get("--proxy", "socks5h://127.0.0.1:1080", "--noproxy", "", "http://ann.mesh:81/"); err == nil {
		t.Error("a port that no rule allows:", out)
	}
	if out, err := a.command("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	if out, err := get("--proxy", "socks5h://127.0.0.1:1080", "--noproxy", "", "http://ann.mesh:82/"); err != nil || !strings.Contains(out, "404") {
		t.Error("a peer whose kernel answers nothing by IPv6:", out, err)
	}
}
