package mdns

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// roleVariable makes the test's program one peer of a link: its network key, as for networkKey, and its own number.
const roleVariable = "SPLITMESH_MDNS_TEST"

// peerKey is the key of the peer with the number.
func peerKey(number int) (*identity.Key, error) {
	seed := sha256.Sum256(fmt.Appendf(nil, "mdns test peer %d", number))
	return identity.NewKeyFromSeed(seed[:])
}

// play publishes a record, says "up", and then, for each line "NUMBER TRIES", looks that peer up until it is found, and
// says what came of it. It ends with its input.
func play(role string) int {
	var network byte
	var number int
	if _, err := fmt.Sscan(role, &network, &number); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := playAs(network, number, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func playAs(network byte, number int, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	d := &Directory{NetworkKey: networkKey(network)}
	if err := d.Start(ctx); err != nil {
		return err
	}
	defer d.Close()
	k, err := peerKey(number)
	if err != nil {
		return err
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Name: "peer" + strconv.Itoa(number)}
	for i := range registry.MaxAddrs { // so many that the answer is sent in fragments
		addr, err := multiaddr.NewMultiaddr(fmt.Sprintf("/dns4/%s.%d.example/tcp/443", strings.Repeat("a", 63), i))
		if err != nil {
			return err
		}
		r.Addrs = append(r.Addrs, addr)
	}
	if err := r.Sign(k); err != nil {
		return err
	}
	if err := d.Publish(ctx, r); err != nil {
		return err
	}
	fmt.Fprintln(out, "up")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var other, tries int
		if _, err := fmt.Sscan(lines.Text(), &other, &tries); err != nil {
			return err
		}
		sought, err := peerKey(other)
		if err != nil {
			return err
		}
		found, err := d.Lookup(ctx, sought.ID())
		for ; err != nil && tries > 1; tries-- {
			found, err = d.Lookup(ctx, sought.ID())
		}
		switch {
		case err == nil:
			id, err := d.Resolve(ctx, found.Name)
			fmt.Fprintln(out, "found", found.Name, id == sought.ID(), err)
		case errors.Is(err, registry.ErrNotFound):
			fmt.Fprintln(out, "not found")
		default:
			return err
		}
	}
	return nil
}

// ip runs a command of iproute2.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// joined returns the names of two network namespaces with a link between them, each with one of the addresses.
func joined(t *testing.T, addrs [2]string) (names [2]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip, of iproute2, to make network namespaces:", err)
	}
	for i := range names {
		names[i] = fmt.Sprintf("splitmesh-%d-%s", os.Getpid(), strings.NewReplacer("/", "-", ":", ".").Replace(addrs[i]))
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", names[i]).CombinedOutput(); err != nil {
			t.Skipf("needs the right to make network namespaces: ip netns add: %v\n%s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", names[i]).CombinedOutput(); err != nil {
				t.Errorf("ip netns del: %v\n%s", err, out)
			}
		})
	}
	ip(t, "-n", names[0], "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", names[1])
	for i, name := range names {
		ip(t, "-n", name, "link", "set", "lan", "addrgenmode", "none")
		args := []string{"-n", name, "addr", "add", addrs[i], "dev", "lan"}
		if strings.Contains(addrs[i], ":") {
			args = append(args, "nodad")
		}
		ip(t, args...)
		ip(t, "-n", name, "link", "set", "lan", "up")
	}
	group := group4
	if strings.Contains(addrs[0], ":") {
		group = group6
	}
	// The system brings a link up when it has the time; until then there is no network there.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range names {
		for exec.CommandContext(ctx, "ip", "-n", name, "route", "get", group.String(), "oif", "lan").Run() != nil {
			if ctx.Err() != nil {
				t.Fatal("the link between the namespaces does not come up")
			}
		}
	}
	return names
}

// A peer is a process that plays a role.
type peer struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// started returns a peer in the namespace that is up.
func started(t *testing.T, namespace string, network byte, number int) *peer {
	t.Helper()
	return startedAs(t, namespace, fmt.Sprintf("%s=%d %d", roleVariable, network, number))
}

// startedAs is started for a role that is a variable of the environment.
func startedAs(t *testing.T, namespace, role string) *peer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", namespace, self)
	cmd.Env = append(os.Environ(), role, "GORACE=atexit_sleep_ms=0")
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
		_ = cmd.Wait() // what it had to say it has said
	})
	p := &peer{t, in, bufio.NewScanner(out)}
	p.says("up")
	return p
}

func (p *peer) says(want string) {
	p.t.Helper()
	if !p.out.Scan() || p.out.Text() != want {
		p.t.Fatalf("a peer says %q, want %q", p.out.Text(), want)
	}
}

// looks has the peer look another up, that many times at most.
func (p *peer) looks(number, tries int, want string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, number, tries); err != nil {
		p.t.Fatal(err)
	}
	p.says(want)
}

// Processes on two machines find each other with one Lookup, whose patience is its limit, if they have one network key;
// those with another key don't in two, each of which asks three times.
func TestTwoProcesses(t *testing.T) {
	for name, addrs := range map[string][2]string{
		"IPv4": {"192.0.2.1/24", "192.0.2.2/24"},
		"IPv6": {"fe80::1/64", "fe80::2/64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := joined(t, addrs)
			ann, stranger := started(t, ns[0], 1, 1), started(t, ns[1], 2, 3)
			bob := started(t, ns[1], 1, 2)
			ann.looks(2, 1, "found peer2 true <nil>")
			bob.looks(1, 1, "found peer1 true <nil>")
			for _, n := range []int{1, 2} {
				stranger.looks(n, 2, "not found")
			}
			ann.looks(3, 2, "not found")
			bob.looks(3, 2, "not found")
			// One who comes when all has been announced; and one who shares the machine, and so the port.
			for i, namespace := range ns {
				late := started(t, namespace, 1, 10+i)
				late.looks(1, 1, "found peer1 true <nil>")
				late.looks(2, 1, "found peer2 true <nil>")
			}
			stranger.looks(1, 1, "not found")
		})
	}
}
