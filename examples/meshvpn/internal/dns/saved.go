package dns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// What we write into the system's file begins with a line by which it is known as ours, and ends with what the file was,
// so that it can be put back with nothing else at hand. A file without the marker was changed by another since, and is not
// ours to put back.
const (
	marker   = "# meshvpn answers for names that end in .mesh, and asks others for the rest."
	byPrefix = "# by process "
	wasLink  = "# was a link to "
	wasFile  = "# was a file of mode "
	wasNone  = "# was not there"
	wasLine  = "# was: "
)

// A saved is what a file was: a link, missing, or text.
type saved struct {
	link    string
	missing bool
	mode    fs.FileMode
	text    []byte
}

// readSaved reads what is at a path, or where it leads; now is its text.
func readSaved(path string, now []byte) (was saved, err error) {
	if was.link, err = os.Readlink(path); err == nil {
		return was, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{missing: true}, nil
	}
	if err != nil {
		return was, err
	}
	return saved{mode: info.Mode().Perm(), text: now}, nil
}

// put has it be at the path again.
func (w *saved) put(path string) error {
	switch {
	case w.missing:
		return os.Remove(path)
	case w.link != "":
		fresh := path + ".meshvpn"
		if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return errors.Join(os.Symlink(w.link, fresh), os.Rename(fresh, path))
	}
	return writeFile(path, w.text, w.mode)
}

// write writes it as comments, a line of the file in each.
func (w *saved) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s%s\n", byPrefix, process(os.Getpid()))
	switch {
	case w.link != "":
		fmt.Fprintf(b, "%s%q\n", wasLink, w.link)
	case w.missing:
		fmt.Fprintln(b, wasNone)
	default:
		fmt.Fprintf(b, "%s%04o\n", wasFile, w.mode)
		for line := range strings.Lines(string(w.text)) {
			fmt.Fprintf(b, "%s%q\n", wasLine, line)
		}
	}
}

// parseSaved reads what write has written.
func parseSaved(b []byte) (w saved, err error) {
	known := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, wasLink); ok {
			known = true
			w.link, err = strconv.Unquote(rest)
		} else if rest, ok := strings.CutPrefix(line, wasFile); ok {
			known = true
			var mode uint64
			mode, err = strconv.ParseUint(rest, 8, 9)
			w.mode = fs.FileMode(mode)
		} else if rest, ok := strings.CutPrefix(line, wasLine); ok {
			var s string
			s, err = strconv.Unquote(rest)
			w.text = append(w.text, s...)
		} else if line == wasNone {
			known, w.missing = true, true
		}
		if err != nil {
			return w, fmt.Errorf("%.80q: %w", line, err)
		}
	}
	if !known {
		return w, errors.New("it does not say what it was: write it anew")
	}
	return w, nil
}

// process names a process so that no later one is taken for it: by its number, and when it began. One that has ended has
// no name, also while its parent has not asked how it ended.
func process(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // behind the program's name
	if len(f) > 19 && !bytes.ContainsAny(f[0], "ZXx") {
		return fmt.Sprintf("%d, begun at %s", pid, f[19])
	}
	return ""
}

// writerOf is the process that wrote a file of ours, as process names it.
func writerOf(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), byPrefix); ok {
			return name
		}
	}
	return ""
}

// isOurs is whether this process wrote it.
func isOurs(b []byte) bool { return writerOf(b) != "" && writerOf(b) == process(os.Getpid()) }

// owner is the other process that wrote it and still runs; 0: none.
func owner(b []byte) int {
	name := writerOf(b)
	pid, _, _ := strings.Cut(name, ",")
	if n, err := strconv.Atoi(pid); err == nil && n != os.Getpid() && process(n) == name {
		return n
	}
	return 0
}

// overwrite writes a file in place, but not one that a link leads to. If there is no room it stays as it was.
func overwrite(path string, b []byte) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file to be written in place", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	old, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	set := func(b []byte) error {
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
		return errors.Join(f.Truncate(int64(len(b))), f.Sync())
	}
	if err = set(b); err != nil {
		err = errors.Join(err, set(old))
	}
	return errors.Join(err, f.Close())
}
