package mesh_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/transport"
)

// natRole makes the test's program one of the nodes around an address translation: the
// number of an observer's key, or "inside" and the observers' addresses.
const natRole = "SPLITMESH_MESH_NAT"

// playNAT plays a role until its input ends.
func playNAT(role string) int {
	if err := playNATAs(strings.Fields(role)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func playNATAs(role []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := new(mesh.Node)
	defer n.Close()
	listen := []string{"/ip4/0.0.0.0/tcp/4001"}
	if role[0] == "inside" {
		listen = append(listen, "/ip4/0.0.0.0/tcp/4002/ws")
		n.Directory = directory.New()
		for _, s := range role[1:] {
			a, err := transport.Parse(s)
			if err != nil {
				return err
			}
			n.Bootstrap = append(n.Bootstrap, a)
		}
	} else {
		number, err := strconv.Atoi(role[0])
		if err != nil {
			return err
		}
		if n.Identity, err = numberedKey(number); err != nil {
			return err
		}
	}
	for _, s := range listen {
		n.ListenAddrs = append(n.ListenAddrs, multiaddr.StringCast(s))
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "up")
	if role[0] != "inside" {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the input ends
		return nil
	}
	for _, b := range n.Bootstrap {
		_, id, _, err := transport.SplitPeer(b)
		if err != nil {
			return err
		}
		if _, err := n.Dial(ctx, id.String()+":nothing"); !errors.Is(err, mesh.ErrNoService) {
			return fmt.Errorf("dialling an observer: %w", err)
		}
	}
	for {
		rec, err := n.Record()
		if err != nil {
			return err
		}
		var addrs []string
		for _, a := range rec.Addrs {
			addrs = append(addrs, a.String())
		}
		fmt.Fprintln(os.Stdout, strings.Join(addrs, " "))
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// TestBehindNAT: a node in a private network publishes the one address at which the
// translation forwards to it, once peers in two networks have reached it there.
func TestBehindNAT(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	for _, program := range []string{"ip", "nft", "sysctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs ", program, ": ", err)
		}
	}
	run := func(command string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	space := func(name string) string {
		name = fmt.Sprintf("splitmesh-%d-%s", os.Getpid(), name)
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Skipf("needs the right to make network namespaces: %v\n%s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
		run("ip -n " + name + " link set lo up")
		return name
	}
	router := space("router")
	run("ip netns exec " + router + " sysctl -qw net.ipv4.ip_forward=1")
	run("ip -n " + router + " addr add 203.0.113.1/32 dev lo") // its address to the world
	behind := func(name, net string) string {
		ns := space(name)
		run(fmt.Sprintf(`ip -n %[1]s link add %[3]s type veth peer name net0 netns %[2]s
			ip -n %[1]s addr add %[4]s.1/24 dev %[3]s
			ip -n %[1]s link set %[3]s up
			ip -n %[2]s addr add %[4]s.2/24 dev net0
			ip -n %[2]s link set net0 up
			ip -n %[2]s route add default via %[4]s.1`, router, ns, name, net))
		return ns
	}
	inside, one, two := behind("inside", "192.168.77"), behind("one", "198.51.100"), behind("two", "192.0.2")
	run(`ip netns exec ` + router + ` nft -f - <<'END'
		table ip nat {
			chain in { type nat hook prerouting priority -100; ip daddr 203.0.113.1 tcp dport 4001 dnat to 192.168.77.2; }
			chain out { type nat hook postrouting priority 100; ip saddr 192.168.77.0/24 snat to 203.0.113.1; }
		}
END`)
	play := func(ns, role string) (lines *bufio.Scanner) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, self)
		cmd.Env = append(os.Environ(), natRole+"="+role)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Process.Kill()
			cmd.Wait()
		})
		if lines = bufio.NewScanner(out); !lines.Scan() || lines.Text() != "up" {
			t.Fatalf("%s did not start: %q", role, lines.Text())
		}
		return lines
	}
	play(one, "71")
	play(two, "72")
	const outside = "/ip4/203.0.113.1/"
	lines := play(inside, fmt.Sprintf("inside /ip4/198.51.100.2/tcp/4001/p2p/%s /ip4/192.0.2.2/tcp/4001/p2p/%s", key(t, 71).ID(), key(t, 72).ID()))
	for lines.Scan() {
		addrs := strings.Fields(lines.Text())
		addrs = slices.DeleteFunc(addrs, func(a string) bool { return !strings.HasPrefix(a, outside) })
		if len(addrs) == 0 {
			continue
		}
		if len(addrs) != 1 || addrs[0] != outside+"tcp/4001" {
			t.Errorf("it publishes %q", addrs)
		}
		return
	}
	t.Error("it never publishes where it is reached")
}
