package tun

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alone has the test run in a network namespace of its own, on a thread that ends with it.
func alone(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it needs root, to make a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

var config = Config{
	Name: "mesh%d", MTU: 1420, Addrs: []netip.Addr{netip.MustParseAddr("100.64.1.1"), netip.MustParseAddr("fd77::1")},
	Nets: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd77::/48"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.0/24")},
}

// TestDevice: it has its addresses, routes and rules, and leaves nothing behind.
func TestDevice(t *testing.T) {
	alone(t)
	before := ip(t, "rule")
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	shown := ip(t, "addr", "show", d.Name()) + ip(t, "route", "show", "table", "all") + ip(t, "-6", "route") + ip(t, "rule")
	for _, want := range []string{
		"mtu 1420", "100.64.1.1/32", "fd77::1/128", "100.64.0.0/10 dev mesh0 src 100.64.1.1", "192.0.2.0/24 dev mesh0", "fd77::/48 dev mesh0",
		"default dev mesh0 table 28022", "5200:\tfrom all lookup main suppress_prefixlength 0", "5201:\tnot from all fwmark 0x6d76 lookup 28022",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	// A packet that the kernel sends can be read, behind its header.
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 70000)
	for {
		n, err := d.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(b[:n]), "hello") && b[10] == 0x45 {
			break
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if after := ip(t, "rule"); after != before {
		t.Errorf("rules are left:\n%s", after)
	}
	if _, err := d.Read(b); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// TestRestore: the rules of a process that crashed are taken back.
func TestRestore(t *testing.T) {
	alone(t)
	before := ip(t, "rule")
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	d.file.Close() // as the kernel does when a process ends
	if ip(t, "rule") == before {
		t.Fatal("there is nothing to take back")
	}
	for range 2 {
		if err := Restore(); err != nil {
			t.Error(err)
		}
	}
	if after := ip(t, "rule"); after != before {
		t.Errorf("rules are left:\n%s", after)
	}
}

// TestErrors: each says what to do.
func TestErrors(t *testing.T) {
	alone(t)
	d, err := Open(Config{Name: "mesh0", MTU: 1420})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := Open(Config{Name: "mesh0", MTU: 1420}); program.Status(err) != program.Busy {
		t.Error(err)
	}
	if _, err := Open(Config{Name: "mesh1", MTU: 1 << 20}); err == nil || !strings.Contains(err.Error(), "MTU") {
		t.Error(err)
	}
	if _, err := Open(Config{Name: strings.Repeat("x", 16), MTU: 1420}); err == nil {
		t.Error("a long name is taken")
	}
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, 65534, keep); errno != 0 { // this thread alone loses its privileges
		t.Fatal(errno)
	}
	_, err = Open(Config{Name: "mesh2", MTU: 1420})
	if program.Status(err) != program.Forbidden || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Error(err)
	}
}
