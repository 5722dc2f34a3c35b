package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A System is the machine's resolver: systemd-resolved, which asks us for what ends in .mesh alone and forgets us with
// the device; or else a file, which can't tell names apart, so that we are asked for all. What the file was stands in it,
// so that Restore, or Recover in a later run, puts it back.
type System struct {
	// File is /etc/resolv.conf.
	File string
	// Uplinks is the file in which systemd-resolved says whom it asks itself; empty: there is none.
	Uplinks string

	every time.Duration // 0 is lookEvery
	left  view          // as it was last seen, or written
	link  string        // what the file led to before it was ours; empty: it was no link
	told  bool          // whether it is systemd-resolved that asks us
	mount string        // where the file was mounted, as by ip netns exec; empty: it was not
}

// resolvectlPatience bounds a command of systemd-resolved's.
const resolvectlPatience = 5 * time.Second

// Take has the system ask the servers, which are at a device's own addresses. upstreams are those that are to be asked
// for names that are not ours; none if the system does that itself.
func (s *System) Take(ctx context.Context, device string, servers []netip.Addr) (upstreams []netip.AddrPort, err error) {
	s.link, s.mount = "", ""
	s.left = *s.look() // it is read again
	at := s.place()
	if mounted, err := isMounted(at); err != nil {
		return nil, err
	} else if mounted {
		s.mount = at
	}
	if _, err := s.Recover(); err != nil {
		return nil, err
	}
	now, err := readFile(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.left, s.told = view{file: now}, false
	if pid := owner(now); pid != 0 {
		return nil, fmt.Errorf("another meshvpn, which is process %d, has changed %s", pid, s.File)
	}
	asked := nameservers(now)
	var failed error
	if slices.ContainsFunc(asked, isStub) {
		if failed = resolvectl(ctx, device, servers); failed == nil {
			s.told = true
			return nil, nil
		}
		// It would learn of us by the file: to ask it would be to ask ourselves.
		up, err := readFile(s.Uplinks)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(failed, err)
		}
		asked = slices.Concat(slices.DeleteFunc(asked, isStub), nameservers(up))
	}
	for _, a := range asked {
		if !slices.Contains(servers, a) && !isStub(a) {
			upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
		}
	}
	was, err := readSaved(at, now)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	text := ours(now, was, servers)
	if len(text) > maxFile {
		return nil, errors.Join(failed, fmt.Errorf("%s is too long to be kept", s.File))
	}
	if err := writeFile(at, text, 0o644); err != nil {
		return nil, errors.Join(failed, err)
	}
	if was.link != "" {
		s.link = was.link
		if !filepath.IsAbs(s.link) {
			s.link = filepath.Join(filepath.Dir(at), s.link)
		}
	}
	s.left = *s.look()
	s.left.file = text
	return upstreams, nil
}

// nameservers are those of a file, with zones.
func nameservers(text []byte) (out []netip.Addr) {
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	for _, server := range conf.Servers {
		if a, err := netip.ParseAddr(server); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// isStub is whether a server is systemd-resolved.
func isStub(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// resolvectl has systemd-resolved ask us.
func resolvectl(ctx context.Context, device string, servers []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, resolvectlPatience)
	defer cancel()
	run := func(verb string, args ...string) error {
		c := exec.CommandContext(ctx, "resolvectl", append([]string{verb, device}, args...)...)
		c.WaitDelay = time.Second // what it has begun may hold its output
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("resolvectl %s: %w: %.200s", verb, err, out)
		}
		return nil
	}
	var texts []string
	for _, a := range servers {
		texts = append(texts, a.String())
	}
	for _, verb := range []string{"dnssec", "dnsovertls", "llmnr", "mdns"} { // none is ours, whatever holds for others
		_ = run(verb, "no") // old ones have not all of them
	}
	if err := run("dns", texts...); err != nil {
		return err
	}
	if err := run("domain", "~mesh"); err != nil {
		return err
	}
	return run("default-route", "no")
}

// ours is the file with our servers instead of those that it had, and what it was.
func ours(now []byte, was saved, servers []netip.Addr) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, marker)
	fmt.Fprintln(&b, "# It puts back what was here when it ends. If it can't, run: meshvpn down")
	for _, a := range servers {
		fmt.Fprintln(&b, "nameserver", a)
	}
	for line := range strings.Lines(string(now)) {
		if f := strings.Fields(line); len(f) > 0 && (f[0] == "search" || f[0] == "domain" || f[0] == "options") {
			fmt.Fprintln(&b, strings.Join(f, " "))
		}
	}
	was.write(&b)
	return b.Bytes()
}

// Recover puts the file back, if the process that changed it has ended. mended is whether it did.
func (s *System) Recover() (mended bool, err error) {
	return s.restore(func(now []byte) bool { return owner(now) == 0 })
}

// Restore puts the file back, if it is still as this process left it. What another program wrote since stays.
func (s *System) Restore() error {
	if isOurs(s.left.file) && s.lost() {
		return fmt.Errorf("%w: run meshvpn down where it is mounted to have it put back", s.errLost())
	}
	_, err := s.restore(isOurs)
	return err
}

// Owner is the process that has changed the file and still runs, unless it is this one; 0: there is none.
func (s *System) Owner() int {
	now, err := readFile(s.place())
	if err != nil || !bytes.HasPrefix(now, []byte(marker)) {
		return 0
	}
	return owner(now)
}

func (s *System) restore(may func(now []byte) bool) (mended bool, err error) {
	at := s.place()
	now, err := readFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !bytes.HasPrefix(now, []byte(marker)) || !may(now) {
		return false, err
	}
	was, err := parseSaved(now)
	if err == nil {
		err = was.put(at)
	}
	if err != nil {
		return false, fmt.Errorf("putting back %s: %w", at, err)
	}
	return true, nil
}

// maxFile bounds a file of the system's.
const maxFile = 64 << 10

func readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has over %d bytes", path, maxFile)
	}
	return b, err
}

// writeFile writes a file anew and renames it; where it is a mount, as in containers, or where the directory is not to be
// written, it can only be overwritten.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".meshvpn-*")
	if err != nil {
		if overwrite(path, b) == nil {
			return nil
		}
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			return nil
		}
		if overwrite(path, b) == nil {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}
