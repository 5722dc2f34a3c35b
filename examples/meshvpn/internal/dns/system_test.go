package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

var own = []netip.Addr{netip.MustParseAddr("100.64.1.1")}

// TestSystem: the file asks us while we are there, and is what it was afterwards, also when we crashed, with nothing kept
// elsewhere.
func TestSystem(t *testing.T) {
	const text = "# by hand\nnameserver 192.0.2.53\nsearch example.org\noptions edns0\nnameserver 2001:db8::53\nnameserver 100.64.1.1\n# \xff, no end"
	for name, tt := range map[string]struct {
		before func(t *testing.T, path string)
		after  func(t *testing.T, path string)
		change func(t *testing.T, path string)
	}{
		"a file": {
			before: func(t *testing.T, path string) { write(t, path, text, 0o640) },
			after: func(t *testing.T, path string) {
				info, err := os.Stat(path)
				if content(t, path) != text || err != nil || info.Mode().Perm() != 0o640 {
					t.Error(content(t, path), info, err)
				}
			},
		},
		"a link": {
			before: func(t *testing.T, path string) {
				write(t, path+".real", text, 0o640)
				if err := os.Symlink("resolv.conf.real", path); err != nil {
					t.Fatal(err)
				}
			},
			after: func(t *testing.T, path string) {
				if to, err := os.Readlink(path); to != "resolv.conf.real" || content(t, path) != text {
					t.Error(to, err)
				}
			},
		},
		"none": {
			before: func(*testing.T, string) {},
			after: func(t *testing.T, path string) {
				if _, err := os.Stat(path); err == nil {
					t.Error("it is there")
				}
			},
		},
		"changed by another": {
			before: func(t *testing.T, path string) { write(t, path, text, 0o640) },
			change: func(t *testing.T, path string) { write(t, path, "nameserver 203.0.113.53\n", 0o640) },
			after: func(t *testing.T, path string) {
				if got := content(t, path); got != "nameserver 203.0.113.53\n" {
					t.Error(got)
				}
			},
		},
	} {
		for _, crashed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, crashed), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "resolv.conf")
				tt.before(t, path)
				s := &System{File: path}
				up, err := s.Take(t.Context(), "mesh0", own)
				if err != nil {
					t.Fatal(err)
				}
				if got := content(t, path); strings.Contains(got, "\nnameserver 192.0.2.53") || !strings.Contains(got, "nameserver 100.64.1.1\n") || name != "none" && !strings.Contains(got, "search example.org\noptions edns0\n") {
					t.Error(got)
				}
				if name != "none" && fmt.Sprint(up) != "[192.0.2.53:53 [2001:db8::53]:53]" {
					t.Error(up)
				}
				if tt.change != nil {
					tt.change(t, path)
				}
				restore := s.Restore
				if crashed { // another process comes later
					restore = func() error {
						_, err := (&System{File: path}).Recover()
						return err
					}
				}
				for range 2 {
					if err := restore(); err != nil {
						t.Error(err)
					}
				}
				tt.after(t, path)
			})
		}
	}
}

// TestOthers: the file of one that runs stays, of one that has ended it does not.
func TestOthers(t *testing.T) {
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	name := process(other.Process.Pid)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	its := marker + "\nnameserver 100.64.9.9\n" + byPrefix + name + "\n" + wasFile + "0644\n" + wasLine + `"nameserver 192.0.2.53\n"` + "\n"
	write(t, path, its, 0o644)
	s := &System{File: path}
	mended, err := s.Recover()
	if err = errors.Join(err, s.Restore()); mended || err != nil || content(t, path) != its || s.Owner() != other.Process.Pid {
		t.Error(mended, err, content(t, path))
	}
	if _, err := s.Take(t.Context(), "mesh0", own); err == nil || !strings.Contains(err.Error(), "another meshvpn") {
		t.Error(err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	up, err := s.Take(t.Context(), "mesh0", own)
	if fmt.Sprint(up) != "[192.0.2.53:53]" || err != nil {
		t.Error(up, err)
	}
	if err := s.Restore(); err != nil || content(t, path) != "nameserver 192.0.2.53\n" {
		t.Error(err, content(t, path))
	}
}

// resolvectlSays puts a program of that name into the path, which keeps what it was asked.
func resolvectlSays(t *testing.T, status int) (asked string) {
	t.Helper()
	dir := t.TempDir()
	asked = filepath.Join(dir, "asked")
	write(t, asked, "", 0o600)
	write(t, filepath.Join(dir, "resolvectl"), fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%s\nexit %d\n", asked, status), 0o700)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return asked
}

// TestResolved: systemd-resolved is asked if it is it that programs ask; where it can't be told, the file has us, and we
// ask those whom it asks.
func TestResolved(t *testing.T) {
	for name, tt := range map[string]struct {
		file     string
		status   int
		told     bool
		upstream string
	}{
		"it is told":        {"nameserver 127.0.0.53\noptions edns0\n", 0, true, "[]"},
		"it can't be told":  {"nameserver 127.0.0.53\noptions edns0\n", 1, false, "[192.0.2.1:53]"},
		"nobody asks it":    {"nameserver 192.0.2.9\n", 0, false, "[192.0.2.9:53]"},
		"it is one of many": {"nameserver 192.0.2.9\nnameserver 127.0.0.53\n", 1, false, "[192.0.2.9:53 192.0.2.1:53]"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := resolvectlSays(t, tt.status)
			dir := t.TempDir()
			s := &System{File: filepath.Join(dir, "resolv.conf"), Uplinks: filepath.Join(dir, "uplinks")}
			write(t, s.Uplinks, "nameserver 192.0.2.1\n", 0o600)
			write(t, s.File, tt.file, 0o600)
			up, err := s.Take(t.Context(), "mesh0", own)
			if err != nil || fmt.Sprint(up) != tt.upstream {
				t.Error(up, err)
			}
			if changed := content(t, s.File) != tt.file; changed == tt.told {
				t.Error(content(t, s.File))
			}
			if tt.told && !strings.HasSuffix(content(t, asked), "dns mesh0 100.64.1.1\ndomain mesh0 ~mesh\ndefault-route mesh0 no\n") {
				t.Error(content(t, asked))
			}
			if err := s.Restore(); err != nil || content(t, s.File) != tt.file {
				t.Error(err, content(t, s.File))
			}
		})
	}
}

// TestOverwrite: a file in place of which no other can be put is written, and where there is no room it stays.
func TestOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "a longer text", 0o600)
	if err := overwrite(path, []byte("short")); err != nil || content(t, path) != "short" {
		t.Error(err, content(t, path))
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := overwrite(link, []byte("through the link")); err == nil || content(t, path) != "short" {
		t.Error(err, content(t, path))
	}
}

// FuzzSaved: whatever a file was is read back as it was.
func FuzzSaved(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\n\n# x"), uint16(0o644))
	f.Add([]byte("# was not there\n# by process 1, begun at 2"), uint16(0))
	f.Fuzz(func(t *testing.T, text []byte, mode uint16) {
		was := saved{text: text, mode: os.FileMode(mode & 0o777)}
		got, err := parseSaved(ours(text, was, own))
		if err != nil || string(got.text) != string(text) || got.mode != was.mode || got.missing || got.link != "" {
			t.Error(got, err)
		}
		_, _ = parseSaved(text) // it may be no such file
	})
}
