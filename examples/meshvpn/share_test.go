//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

// TestPrivateNetwork: its key travels with the invitation, by standard input only, and is not left when joining fails.
func TestPrivateNetwork(t *testing.T) {
	server, client := dir(t), dir(t)
	key := filepath.Join(dir(t), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(key), 0o755); err != nil {
		t.Fatal(err)
	}
	listen := []string{"--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--state", server, "--node.network-key-file", key}
	text := run(t, append([]string{"invite", "--for", "bob", "--node.name", "ann"}, listen...)...)
	invitation := text.line(t)
	text.end(t)
	if strings.Contains(text.errs.String(), "abab") {
		t.Error("the key is shown")
	}
	if out, status := once(t, invitation, "join", "--state", client); status == 0 { // nobody answers
		t.Error(out)
	}
	for _, name := range []string{"network-key", "hosts"} {
		if _, err := os.Stat(filepath.Join(client, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	// The next is that of another start, and the first still counts.
	again := run(t, append([]string{"invite", "--for", "bob"}, listen...)...)
	if out, status := once(t, again.line(t), "join", "--as", "ann", "--state", client); status != 0 {
		t.Fatal(status, out)
	}
	if b, err := os.ReadFile(filepath.Join(client, "network-key")); err != nil || string(b) != strings.Repeat("ab", 32) {
		t.Error(string(b), err)
	}
	if info, err := os.Stat(filepath.Join(client, "network-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	_ = again.cmd.Wait() // it has seen who joined
	again.ended = true
}

// TestInviteAlone: who makes an invitation that nobody can follow is told what to set, also by the meshvpn that runs.
func TestInviteAlone(t *testing.T) {
	state := dir(t)
	first := run(t, "invite", "--for", "bob", "--node.dht", "--state", state)
	first.line(t)
	second := run(t, "invite", "--for", "carl", "--no-wait", "--state", state)
	second.line(t)
	if err := second.cmd.Wait(); err != nil {
		t.Error(err)
	}
	second.ended = true
	first.end(t)
	late := run(t, "invite", "--for", "bob", "--no-wait", "--node.dht", "--node.bootstrap", "https://127.0.0.1:1",
		"--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--relays.only", "--node.reservations=-1", "--state", dir(t))
	late.line(t)
	if err := late.cmd.Wait(); err != nil {
		t.Error(err)
	}
	late.ended = true
	const alone = "nobody can reach this node: set node.bootstrap to relays"
	for p, want := range map[*running]string{first: alone, second: alone, late: "no relay serves this node so far, since node.bootstrap has not answered"} {
		if said := p.errs.String(); !strings.Contains(said, "It holds no address: "+want) {
			t.Error(said)
		}
	}
}

// TestPartsShareANode: commands with one state directory run in the first one's process.
func TestPartsShareANode(t *testing.T) {
	server, client := dir(t), dir(t)
	first := run(t, "forward", "accept", "--allow-all", "--ports", "1024-65535", "--state", server, "--node.listen", "/ip4/127.0.0.1/tcp/0/ws")
	first.line(t)
	printed, status := once(t, "", "invite", "--for", "bob", "--no-wait", "--qr", "--state", server)
	code, _, _ := strings.Cut(printed, "meshvpn1")
	if status != 0 || strings.Count(code, "\n") < 20 || !strings.Contains(code, "▀▄") {
		t.Fatal(status, printed)
	}
	if out, status := once(t, printed, "join", "--as", "ann", "--state", client); status != 0 {
		t.Fatal(out)
	}
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() { // ends with the listener
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				_, _ = c.Write(b)
			}()
		}
	}()
	echoed := func(addr string) error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("there and back")); err != nil {
			return err
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "there and back" {
			return fmt.Errorf("%q: %w", b, err)
		}
		return nil
	}
	serving := run(t, "serve", echo.Addr().String(), "--as", "echo", "--allow", "bob", "--state", server)
	serving.line(t)
	unknown := run(t, "forward", "local", "127.0.0.1:0", "nobody:80", "--state", client)
	if unknown.line(t); !strings.Contains(unknown.line(t), "Nobody has the name nobody") {
		t.Error("it is not told that nobody has the name")
	}
	local := run(t, "forward", "local", "127.0.0.1:0", "ann:echo", "--state", client)
	at, _, _ := strings.Cut(local.line(t), " ")
	if err := echoed(at); err != nil {
		t.Error("local:", err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	remote := run(t, "forward", "remote", "ann", port, echo.Addr().String(), "--state", client)
	remote.line(t)
	if err := echoed("127.0.0.1:" + port); err != nil {
		t.Error("remote:", err)
	}
	if out, status := once(t, "", "serve", "1", "--as", "echo", "--allow-all", "--state", server); status != program.Busy || !strings.Contains(out, "--as") {
		t.Error("a service has two:", status, out)
	}
	if out, status := once(t, "", "status", "--state", server); status == 0 || !strings.Contains(out, "has no network device") {
		t.Error(status, out)
	}
	// What a command that has ended did is no longer done, and the others go on.
	serving.end(t)
	if err := echoed(at); err == nil {
		t.Error("it is served still")
	}
	if err := echoed("127.0.0.1:" + port); err != nil {
		t.Error("remote:", err)
	}
	// The first takes the others with it; they say so.
	first.end(t)
	out, _ := io.ReadAll(remote.lines)
	if err := remote.cmd.Wait(); err == nil {
		t.Errorf("it has ended well: %s%s", out, &remote.errs)
	}
	remote.ended = true
}

// TestRelaysOnly: with that setting no command takes the direct path that there is.
func TestRelaysOnly(t *testing.T) {
	server, client := dir(t), dir(t)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	way := relays(t)
	accepting := run(t, append(way, "forward", "accept", "--allow-all", "--ports", port, "--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--state", server)...)
	accepting.line(t)
	text, status := once(t, "", "invite", "--for", "bob", "--node.name", "ann", "--no-wait", "--state", server)
	if status != 0 {
		t.Fatal(text)
	}
	serving := run(t, "serve", web.Listener.Addr().String(), "--as", "80", "--allow-all", "--state", server)
	id := word(serving.line(t))
	direct, relayed := regexp.MustCompile(`path.* peer=`+id[:8]+` .*via=/`), regexp.MustCompile(`path.* peer=`+id[:8]+` .*via="relay`)
	taken := func(what, log string) {
		t.Helper()
		if direct.MatchString(log) || !relayed.MatchString(log) {
			t.Errorf("%s: %s", what, log)
		}
	}
	often := []string{"--relays.only", "--log.level", "debug", "--state", client}
	out, status := once(t, text, append([]string{"join", "--as", "ann"}, often...)...)
	if taken("join", out); status != 0 {
		t.Fatal(out)
	}
	remote := run(t, append([]string{"forward", "remote", "ann", port, web.Listener.Addr().String()}, often...)...)
	remote.line(t)
	remote.end(t)
	taken("remote", remote.errs.String())
	// The setting of the one that runs counts for those that it does things for, too.
	proxying := run(t, append([]string{"proxy", "--socks", "127.0.0.1:0", "--http", ""}, often...)...)
	proxying.line(t)
	local := run(t, "forward", "local", "127.0.0.1:0", "ann:80", "--state", client)
	at, _, _ := strings.Cut(local.line(t), " ")
	if got, err := curl(t, "http://"+at+"/"); err != nil || !strings.Contains(got, "404") {
		t.Error(got, err)
	}
	local.end(t)
	proxying.end(t)
	taken("local", proxying.errs.String())
	// An invitation does not tell it, either.
	serving.end(t)
	accepting.end(t)
	inviting := run(t, append(way, "invite", "--for", "carol", "--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--relays.only", "--state", server)...)
	i, err := invite.Parse(inviting.line(t))
	if err != nil || len(i.Addrs) == 0 || slices.ContainsFunc(i.Addrs, func(a multiaddr.Multiaddr) bool { _, of, _, _ := transport.SplitPeer(a); return of == i.Peer }) {
		t.Error(i.Addrs, err)
	}
}

// TestInvitationKeepsContacts: it names relays, and none of the other peers of who invites.
func TestInvitationKeepsContacts(t *testing.T) {
	state := dir(t)
	var ids [2]identity.ID
	for i := range ids {
		k, err := identity.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = k.ID()
	}
	at := "/ip4/127.0.0.1/tcp/1/p2p/"
	hosts := ids[0].String() + " dave\n" + at + ids[0].String() + "\n" + at + ids[1].String() + "\n"
	if err := os.WriteFile(filepath.Join(state, "hosts"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	inviting := run(t, "invite", "--for", "bob", "--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--state", state)
	i, err := invite.Parse(inviting.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(i.Addrs); strings.Contains(text, ids[0].PeerID()) || !strings.Contains(text, ids[1].PeerID()) || len(i.Addrs) != 2 {
		t.Error(text)
	}
}

// TestJoinUsesNothing: a join that can't succeed fails before the invitation is used, and says what stands in the way.
func TestJoinUsesNothing(t *testing.T) {
	server, client := dir(t), dir(t)
	inviting := run(t, "invite", "--for", "bob", "--node.name", "ann", "--node.listen", "/ip4/127.0.0.1/tcp/0/ws", "--state", server)
	text := inviting.line(t)
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, hosts := range map[string]string{"taken": k.ID().String() + " ann\n", "broken": "x\n"} {
		if err := os.WriteFile(filepath.Join(client, name), []byte(hosts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"this node's own", []string{"--state", server}},
		{`--as: "X Y" is no petname`, []string{"--as", "X Y", "--state", client}},
		{k.ID().String() + " is called here", []string{"--as", "ann", "--node.hosts", filepath.Join(client, "taken"), "--state", client}},
		{"broken", []string{"--node.hosts", filepath.Join(client, "broken"), "--state", client}},
	} {
		if out, status := once(t, text, append([]string{"join"}, tt.args...)...); status == 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %d, %s", tt.args, status, out)
		}
	}
	if out, status := once(t, text, "join", "--state", dir(t)); status != 0 || !strings.Contains(out, "ann here, and this node is bob there") {
		t.Error(status, out)
	}
	if err := inviting.cmd.Wait(); err != nil {
		t.Error(err, &inviting.errs)
	}
	inviting.ended = true

	// Who isn't reached: the inviter, or a relay as well.
	relay := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}, Relay: new(mesh.RelayConfig)}
	if err := relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	inviting = run(t, "invite", "--for", "carol", "--node.bootstrap", relay.Addrs()[0].String(), "--state", server)
	text = inviting.line(t)
	inviting.end(t)
	if out, _ := once(t, text, "join", "--state", client); !strings.Contains(out, "not used: try again when a meshvpn runs there") {
		t.Error(out)
	}
	relay.Close()
	if out, _ := once(t, text, "join", "--state", client); !strings.Contains(out, "not even a relay. See whether this machine has a network") {
		t.Error(out)
	}
}

// TestAllAtOnce: of commands that start at the same time one has the node, and the others have it do what they want.
func TestAllAtOnce(t *testing.T) {
	state := dir(t)
	var all []*running
	for i := range 6 {
		all = append(all, run(t, "serve", "1", "--as", strconv.Itoa(1000+i), "--allow-all", "--state", state))
	}
	for _, r := range all {
		if line := r.line(t); !strings.Contains(line, "127.0.0.1:1 is tcp/100") {
			t.Error(line)
		}
	}
	for _, r := range all {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		_ = r.cmd.Wait() // those whose node is ended by another say so
		r.ended = true
	}
}

// TestJoinWhileOneRuns: the one that runs with the state directory joins, by a relay that it had not known, and what it
// does is there for the inviter at once. Invitations are listed and revoked by the one that runs, too, or without any.
func TestJoinWhileOneRuns(t *testing.T) {
	server, client := dir(t), dir(t)
	way := relays(t)
	inviting := run(t, append(way, "invite", "--for", "bob", "--node.name", "ann", "--state", server)...)
	text := inviting.line(t)
	proxying := run(t, "proxy", "--socks", "127.0.0.1:0", "--http", "", "--state", client)
	socks := word(proxying.line(t))
	if out, status := once(t, text, "join", "--state", client); status != 0 || !strings.Contains(out, "The inviter is ann here, and this node is bob there.") {
		t.Fatal(status, out)
	}
	if err := inviting.cmd.Wait(); err != nil {
		t.Fatal(err, &inviting.errs)
	}
	inviting.ended = true
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	serving := run(t, append(way, "serve", web.Listener.Addr().String(), "--as", "80", "--allow", "bob", "--state", server)...)
	serving.line(t)
	if got, err := curl(t, "--proxy", "socks5h://"+socks, "http://ann.mesh/"); err != nil || !strings.Contains(got, "404") {
		t.Error(got, err)
	}

	key := filepath.Join(dir(t), "key")
	if err := errors.Join(os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o644), os.Chmod(filepath.Dir(key), 0o755)); err != nil {
		t.Fatal(err)
	}
	private := run(t, append(way, "invite", "--for", "bob", "--node.network-key-file", key, "--state", dir(t))...)
	if out, status := once(t, private.line(t), "join", "--state", client); status == 0 || !strings.Contains(out, "another private network") || strings.Contains(out, "abab") {
		t.Error(status, out)
	}
	private.end(t)

	waiting := run(t, "invite", "--for", "carol", "--state", server)
	text = waiting.line(t)
	out, status := once(t, "", "invite", "list", "--state", server)
	if status != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, "bob") || !strings.Contains(out, "carol") {
		t.Error(status, out)
	}
	if out, status := once(t, "", "invite", "revoke", "carol", "--state", server); status != 0 || !strings.Contains(out, "for carol is revoked") {
		t.Error(status, out)
	}
	if err := waiting.cmd.Wait(); err == nil || !strings.Contains(waiting.errs.String(), "was revoked") {
		t.Error(err, &waiting.errs)
	}
	waiting.ended = true
	if out, status := once(t, text, "join", "--state", dir(t)); status == 0 || !strings.Contains(out, "revoked") {
		t.Error(status, out)
	}
	if out, status := once(t, "", "invite", "revoke", "bob", "--state", server); status == 0 || !strings.Contains(out, "was used") {
		t.Error(status, out)
	}
	serving.end(t)
	if out, status := once(t, "", "invite", "list", "--json", "--state", server); status != 0 || !strings.Contains(out, `"name": "bob"`) || strings.Contains(out, "carol") {
		t.Error(status, out)
	}
}
