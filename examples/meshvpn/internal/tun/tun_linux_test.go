package tun

import (
	"errors"
	"fmt"
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
		"mtu 1420", "100.64.1.1/32", "fd77::1/128", "100.64.0.0/10 dev mesh0 proto 109 src 100.64.1.1", "192.0.2.0/24 dev mesh0", "fd77::/48 dev mesh0",
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

// crash ends a device as the kernel does when its process is killed.
func crash(t *testing.T, d *Device) {
	t.Helper()
	if err := d.file.Close(); err != nil {
		t.Fatal(err)
	}
}

// everything is all that we route, and by which rules.
func everything(t *testing.T) string {
	t.Helper()
	return ip(t, "route", "show", "table", "all", "proto", "109") + ip(t, "-6", "route", "show", "table", "all", "proto", "109") + ip(t, "rule") + ip(t, "-6", "rule")
}

// leads is by which device packets to an address go, or that they don't.
func leads(addr string, more ...string) string {
	out, err := exec.Command("ip", append([]string{"route", "get", addr}, more...)...).CombinedOutput()
	if _, dev, found := strings.Cut(string(out), " dev "); err == nil && found {
		return strings.Fields(dev)[0]
	}
	return "nowhere"
}

// uplink has the namespace have another way to everything.
func uplink(t *testing.T) {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	ip(t, "addr", "add", "203.0.113.2/24", "dev", "up0")
	ip(t, "link", "set", "up0", "up")
	ip(t, "link", "set", "up1", "up")
	ip(t, "route", "add", "default", "via", "203.0.113.1")
}

// TestKilled: what was routed to the device goes nowhere when its process is killed, until the next one has it or it is
// given up; what is marked, and the local network, go as ever.
func TestKilled(t *testing.T) {
	alone(t)
	uplink(t)
	before := everything(t)
	for _, again := range []bool{false, true} {
		d, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		is := func(want string, addrs ...string) {
			t.Helper()
			for _, a := range addrs {
				if got := leads(a); got != want {
					t.Errorf("%v: %s leads to %s, not to %s\n%s", again, a, got, want, everything(t))
				}
			}
		}
		is(d.Name(), "198.51.100.1", "192.0.2.9", "100.64.9.9", "fd77::9")
		crash(t, d)
		is("nowhere", "198.51.100.1", "192.0.2.9", "100.64.9.9", "fd77::9")
		is("up0", "203.0.113.9")
		if got := leads("198.51.100.1", "mark", "0x6d76"); got != "up0" {
			t.Error("what the mesh sends leads to", got)
		}
		if !again { // one that does not start leaves it so
			wrong := config
			wrong.Nets = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
			wrong.MTU = 1 << 20
			if _, err := Open(wrong); err == nil {
				t.Error("it has a wrong MTU")
			}
			is("nowhere", "198.51.100.1")
		}
	}
	for range 2 {
		if err := Restore(); err != nil {
			t.Error(err)
		}
	}
	if after := everything(t); after != before {
		t.Errorf("this is left:\n%s", after)
	}
}

// TestHeld: who holds it leaves no way when it ends, and the next one routes what it is told, no more.
func TestHeld(t *testing.T) {
	alone(t)
	uplink(t)
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	d.Hold()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got := leads("198.51.100.1"); got != "nowhere" {
		t.Error(got)
	}
	less := config
	less.Nets, less.Ports = config.Nets[:2], []uint16{4001}
	if d, err = Open(less); err != nil {
		t.Fatal(err)
	}
	if got := leads("198.51.100.1") + leads("192.0.2.9") + leads("100.64.9.9"); got != "up0up0"+d.Name() {
		t.Error(got)
	}
	if err := d.Route(config.Nets); err != nil {
		t.Error(err)
	}
	if got := leads("198.51.100.1") + leads("192.0.2.9"); got != d.Name()+d.Name() {
		t.Error(got)
	}
	ip(t, "link", "set", d.Name(), "down")
	if got := leads("198.51.100.1") + leads("fd77::9"); got != "nowherenowhere" {
		t.Error("set down, it leads to", got)
	}
	if err := d.Route(config.Nets); err != nil {
		t.Error(err)
	}
	if got := leads("198.51.100.1") + leads("fd77::9"); got != d.Name()+d.Name() {
		t.Error(got)
	}
	if got := leads("198.51.100.1", "ipproto", "tcp", "sport", "4001"); got != "up0" {
		t.Error("what the node answers at its port leads to", got)
	}
	if err := d.Route(less.Nets); err != nil {
		t.Error(err)
	}
	if got := leads("198.51.100.1") + leads("192.0.2.9"); got != "up0up0" {
		t.Error(got)
	}
	crash(t, d)
	if err := Restore(); err != nil {
		t.Error(err)
	}
}

// TestSecond: one that runs is not disturbed by another.
func TestSecond(t *testing.T) {
	alone(t)
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	before := everything(t)
	if _, err := Open(config); program.Status(err) != program.Busy {
		t.Error(err)
	}
	if err := Restore(); err != nil {
		t.Error(err)
	}
	if after := everything(t); after != before {
		t.Errorf("of\n%s\nthis is left:\n%s", before, after)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestDialer: it dials past the device what is routed to it, and not what leads nowhere else.
func TestDialer(t *testing.T) {
	alone(t)
	uplink(t)
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for addr, within := range map[string]bool{"198.51.100.1:9": false, "203.0.113.9:9": false, "127.0.0.1:9": false, "100.64.1.1:9": false, "100.64.9.9:9": true, "[fd77::9]:9": true, "192.0.2.9:9": true} {
		c, err := d.Dialer().Dial("udp", addr)
		if errors.Is(err, ErrItself) != within || err != nil != within {
			t.Errorf("%s: %v", addr, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

// TestNoIPv6: where it is disabled the device has it, or goes without.
func TestNoIPv6(t *testing.T) {
	alone(t)
	for _, name := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Skip(err)
		}
	}
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Addrs(); len(got) != 2 {
		t.Error(got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestStrict: devices that would drop what the mesh gets are named.
func TestStrict(t *testing.T) {
	alone(t)
	uplink(t)
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, tt := range []struct{ all, up0, want string }{{"0", "1", "[up0]"}, {"1", "2", "[up1]"}, {"2", "1", "[]"}} {
		for name, v := range map[string]string{"all": tt.all, "up0": tt.up0, "up1": "0", d.Name(): "1"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte(v), 0); err != nil {
				t.Skip(err)
			}
		}
		if got := fmt.Sprint(d.Strict()); got != tt.want {
			t.Errorf("%d: %s", i, got)
		}
	}
}

// TestPersistent: a device that somebody made to outlive processes is used, and is no sign that one runs.
func TestPersistent(t *testing.T) {
	alone(t)
	uplink(t)
	ip(t, "tuntap", "add", "mesh0", "mode", "tun", "vnet_hdr")
	named := config
	named.Name = "mesh0"
	for range 2 {
		d, err := Open(named)
		if err != nil {
			t.Fatal(err)
		}
		if got := leads("198.51.100.1"); got != "mesh0" || !Runs() {
			t.Error(got)
		}
		crash(t, d)
		if got := leads("198.51.100.1"); got == "up0" || Runs() {
			t.Error(got)
		}
	}
	if err := Restore(); err != nil {
		t.Error(err)
	}
	if got := leads("198.51.100.1"); got != "up0" {
		t.Error(got)
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
	if _, err := Open(Config{Name: "lo", MTU: 1420}); err == nil || !strings.Contains(err.Error(), "--tun.name") {
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
