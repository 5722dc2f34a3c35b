package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

// A System is the machine's resolver: systemd-resolved, which asks us for what ends in .mesh alone and forgets us with
// the device; or else a file, which can't tell names apart, so that we are asked for all. What the file was is saved
// before it is changed, and put back by Restore, in this run or a later one.
type System struct {
	// File is /etc/resolv.conf, Saved where its content is kept.
	File, Saved string
}

// marker begins what we write. A file without it was changed by another since, and is not ours to put back.
const marker = "# meshvpn answers for names that end in .mesh, and asks others for the rest."

// maxFile bounds a file of the system's.
const maxFile = 64 << 10

// A saved is what the file was.
type saved struct {
	Link    string      `json:"link,omitempty"` // it was a symbolic link
	Text    []byte      `json:"text,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	Missing bool        `json:"missing,omitempty"`
}

// Take has the system ask the servers, which are at a device's own addresses. upstreams are those that are to be asked
// for names that are not ours; none if the system does that itself.
func (s *System) Take(ctx context.Context, device string, servers []netip.Addr) (upstreams []netip.AddrPort, err error) {
	if ok, err := resolved(ctx, device, servers); ok || err != nil {
		return nil, err
	}
	was, err := s.read()
	if err != nil {
		return nil, err
	}
	text := was.Text
	if was.Link != "" {
		if text, err = readFile(s.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, err)
	}
	for _, server := range conf.Servers {
		if a, err := netip.ParseAddr(server); err == nil {
			upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
		}
	}
	b, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	if err := writeFile(s.Saved, b, 0o600); err != nil {
		return nil, err
	}
	return upstreams, writeFile(s.File, ours(text, servers), 0o644)
}

// resolved has systemd-resolved ask us, if it runs.
func resolved(ctx context.Context, device string, servers []netip.Addr) (bool, error) {
	if _, err := os.Stat("/run/systemd/resolve"); err != nil {
		return false, nil //nolint:nilerr // it does not run
	}
	program, err := exec.LookPath("resolvectl")
	if err != nil {
		return false, nil //nolint:nilerr // it can't be told
	}
	dnsArgs := []string{"dns", device}
	for _, a := range servers {
		dnsArgs = append(dnsArgs, a.String())
	}
	for _, args := range [][]string{dnsArgs, {"domain", device, "~mesh"}, {"default-route", device, "false"}} {
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return false, fmt.Errorf("resolvectl %s: %w: %.200s", args[0], err, out)
		}
	}
	return true, nil
}

// ours is the file with our servers instead of those that it had.
func ours(text []byte, servers []netip.Addr) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, marker)
	fmt.Fprintln(&b, "# It puts back what was here when it ends. If it can't, run: meshvpn down")
	for _, a := range servers {
		fmt.Fprintln(&b, "nameserver", a)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 0 && (f[0] == "search" || f[0] == "domain" || f[0] == "options") {
			fmt.Fprintln(&b, strings.Join(f, " "))
		}
	}
	return b.Bytes()
}

// Restore puts the file back, if it was changed and is still as we left it.
func (s *System) Restore() error {
	b, err := readFile(s.Saved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var was saved
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil {
		return fmt.Errorf("what %s was: %w", s.File, err)
	}
	now, err := readFile(s.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if bytes.HasPrefix(now, []byte(marker)) {
		if err := s.put(was); err != nil {
			return fmt.Errorf("putting back %s: %w", s.File, err)
		}
	}
	return os.Remove(s.Saved)
}

func (s *System) put(was saved) error {
	switch {
	case was.Missing:
		return os.Remove(s.File)
	case was.Link != "":
		fresh := s.File + ".meshvpn"
		return errors.Join(os.Symlink(was.Link, fresh), os.Rename(fresh, s.File))
	}
	return writeFile(s.File, was.Text, was.Mode)
}

// read reads the file, or where it leads.
func (s *System) read() (was saved, err error) {
	if was.Link, err = os.Readlink(s.File); err == nil {
		return was, nil
	}
	info, err := os.Stat(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{Missing: true}, nil
	}
	if err != nil {
		return was, err
	}
	was.Mode = info.Mode().Perm()
	was.Text, err = readFile(s.File)
	return was, err
}

func readFile(path string) ([]byte, error) {
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

// writeFile writes a file anew and renames it; where it is a mount, as in containers, it can only be overwritten.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".meshvpn-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			return nil
		}
	}
	if errors.Is(err, syscall.EBUSY) {
		err = os.WriteFile(path, b, mode)
	}
	return errors.Join(err, os.Remove(f.Name()))
}
