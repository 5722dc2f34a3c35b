package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// TestRelaysSeeNoPlaintext sends a file full of a secret word and searches each
// relay for it, in its memory while the file goes through, and in every byte that
// it received and sent. The same search finds the word in the sender and in the
// receiver, and it finds in the relay what is there.
func TestRelaysSeeNoPlaintext(t *testing.T) {
	canary := make([]byte, 32)
	rand.Read(canary)
	words := needles(canary)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, salted(canary, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parseArgs([]string{file}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	// The program as it is shipped: the race detector maps terabytes.
	o.exe = filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.Command("go", "build", "-o", o.exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var wires []*wire
	o.via = func(relay string) (string, error) {
		w, err := tap(relay)
		if err == nil {
			wires = append(wires, w)
			t.Cleanup(w.close)
		}
		return w.addr, err
	}
	o.half = func(_ context.Context, g *game) error {
		for _, p := range g.relays {
			id, err := identity.ParseID(p.id)
			if err != nil {
				return err
			}
			found, err := searchMemory(p.cmd.Process.Pid, append([][]byte{id[:]}, words...))
			if err != nil {
				return err
			}
			if found[0] == 0 {
				t.Errorf("the search does not find %v's own ID in it: it shows nothing", p)
			}
			for i, n := range found[1:] {
				if n > 0 {
					t.Errorf("%v holds the secret %d times in its memory (form %d)", p, n, i)
				}
			}
		}
		for _, p := range []*proc{g.sender, g.receiver} {
			found, err := searchMemory(p.cmd.Process.Pid, words)
			if err != nil {
				return err
			}
			if found[0] == 0 || found[1] == 0 {
				t.Errorf("the search does not find the secret in %v, where it is: it shows nothing", p)
			}
		}
		return nil
	}
	s, err := o.once(t.Context(), newDisplay(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	carried := 0
	for _, w := range wires {
		w.close()
		carried += w.search(t, words)
	}
	// Each byte goes into a relay and out again.
	if int64(carried) < 2*s.bytes {
		t.Errorf("the taps saw %d bytes of messages, want at least twice the %d that were sent", carried, s.bytes)
	}
}

// salted is size bytes of which every other 32 are the canary.
func salted(canary []byte, size int) []byte {
	data := make([]byte, size)
	rand.Read(data)
	for i := 0; i < size; i += 64 {
		copy(data[i:], canary)
	}
	return data
}

// needles are what a secret of 32 bytes looks like: the two halves of it as they
// are and in hexadecimal, and the whole in base64, whatever stands before it.
func needles(secret []byte) [][]byte {
	words := [][]byte{secret[:16], secret[16:]}
	for _, half := range words[:2] {
		h := hex.EncodeToString(half)
		words = append(words, []byte(h), []byte(strings.ToUpper(h)))
	}
	for before := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(append(make([]byte, before), secret...))
			// Without the characters that neighbours have a part in.
			words = append(words, []byte(s[(before*8+5)/6:(before+len(secret))*8/6]))
		}
	}
	return words
}

// count counts each word in data.
func count(found []int, data []byte, words [][]byte) {
	for i, w := range words {
		found[i] += bytes.Count(data, w)
	}
}

// searchMemory counts each of the words in what a process has mapped.
func searchMemory(pid int, words [][]byte) ([]int, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, fmt.Errorf("can't look into process %d, run this as root or with CAP_SYS_PTRACE: %w", pid, err)
	}
	defer mem.Close()
	found := make([]int, len(words))
	const piece, overlap = 1 << 20, 64
	buf := make([]byte, piece+overlap)
	read := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if mode[0] != 'r' || strings.Contains(lines.Text(), "[v") { // the kernel's own
			continue
		}
		for at := from; at < to; at += piece {
			n, err := mem.ReadAt(buf[:min(piece+overlap, to-at)], int64(at))
			if n == 0 && err != nil {
				continue // unmapped since
			}
			count(found, buf[:n], words)
			read += n
		}
	}
	if read < 1<<20 {
		return nil, fmt.Errorf("only %d bytes of process %d could be read", read, pid)
	}
	return found, nil
}

// encodings are what someone who has a secret might write down.
func encodings(secret []byte) map[string]string {
	out := map[string]string{
		"raw":         string(secret),
		"first half":  string(secret[:16]),
		"second half": string(secret[16:]),
		"hex":         hex.EncodeToString(secret),
		"HEX":         strings.ToUpper(hex.EncodeToString(secret)),
	}
	for before := range 5 {
		text := append(bytes.Repeat([]byte{'x'}, before), secret...)
		text = append(text, "yz"...)
		out[fmt.Sprintf("base64 after %d bytes", before)] = base64.StdEncoding.EncodeToString(text)
		out[fmt.Sprintf("base64url after %d bytes", before)] = base64.URLEncoding.EncodeToString(text)
	}
	return out
}
