package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

var kills = flag.Int("kills", 20, "how often TestKill kills a process that publishes")

// What a child process is told.
const (
	roleVariable = "SPLITMESH_SQLITE_TEST_ROLE"
	pathVariable = "SPLITMESH_SQLITE_TEST_PATH"
)

// roles are what this binary does as another process, with the file at a path.
var roles = map[string]func(path string) error{"publish": publishForEver, "share": share}

// child starts a role. It is killed when the test ends, if not before.
func child(t *testing.T, role, path string) (cmd *exec.Cmd, stdout *bufio.Reader, stderr *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path)
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewReader(pipe), stderr
}

// common returns keys that all processes know.
func common(n int) []*identity.Key {
	out := make([]*identity.Key, n)
	for i := range out {
		k, err := identity.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, identity.SeedSize))
		if err != nil {
			panic(err)
		}
		out[i] = k
	}
	return out
}

func record(k *identity.Key, sequence int64, name string) (*registry.Record, error) {
	r := &registry.Record{Sequence: sequence, Expires: sequence + registry.MaxLife.Milliseconds(), Name: name, Capabilities: []string{registry.CapRelay}}
	return r, r.Sign(k)
}

const publishers = 5

// publishForEver publishes records of each of the common keys in turn, each one millisecond newer than the one before, and
// says so once it is done, in a line with the key's number and the sequence.
func publishForEver(path string) error {
	ctx := context.Background()
	d, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	known := common(publishers)
	for i := 0; ; i = (i + 1) % publishers {
		sequence := time.Now().UnixMilli()
		switch r, err := d.Lookup(ctx, known[i].ID()); {
		case err == nil:
			sequence = r.Sequence + 1
		case !errors.Is(err, registry.ErrNotFound):
			return err
		}
		r, err := record(known[i], sequence, fmt.Sprintf("peer-%d", i))
		if err != nil {
			return err
		}
		if err := d.Publish(ctx, r); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(os.Stdout, "%d %d\n", i, sequence); err != nil {
			return err
		}
	}
}

// TestKill kills a process that publishes, at random moments, and wants every record that it was told is stored, or the
// one after it, in a file that SQLite finds sound.
func TestKill(t *testing.T) {
	const perFile = 25 // so that some die while they make the file
	start, total := time.Now(), 0
	known := common(publishers)
	var path string
	var stored [publishers]int64
	for n := range *kills {
		if n%perFile == 0 {
			path, stored = newPath(t), [publishers]int64{}
		}
		total += killOnce(t, path, &stored)
		inspect(t, path, known, &stored)
		if t.Failed() {
			t.Fatalf("after kill %d, the %dth of its file", n+1, n%perFile+1)
		}
	}
	t.Logf("%d kills after %d records in all, in %v", *kills, total, time.Since(start).Round(time.Millisecond))
}

// killOnce kills a publisher and notes the newest of each key that it said was stored.
func killOnce(t *testing.T, path string, stored *[publishers]int64) (lines int) {
	cmd, stdout, stderr := child(t, "publish", path)
	kill := func() { cmd.Process.Kill() }
	// A third is killed while it starts, and opens the file; the others at some point between two lines.
	after := rand.IntN(60) - 20
	if after <= 0 {
		defer time.AfterFunc(rand.N(100*time.Millisecond), kill).Stop()
	}
	for {
		line, err := stdout.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		var key int
		var sequence int64
		if _, err := fmt.Sscanf(line, "%d %d\n", &key, &sequence); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		stored[key] = sequence
		if lines++; lines == after {
			defer time.AfterFunc(rand.N(3*time.Millisecond), kill).Stop()
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Errorf("the publisher ended by itself: %v: %s", err, stderr)
	}
	return lines
}

// inspect opens the file and checks it, and notes what is stored.
func inspect(t *testing.T, path string, known []*identity.Key, stored *[publishers]int64) {
	d, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close()
	db := raw(t, path)
	defer db.Close()
	if found := query[string](t, db, `PRAGMA integrity_check`); found != "ok" {
		t.Errorf("integrity_check: %s", found)
	}
	for i, k := range known {
		r, err := d.Lookup(t.Context(), k.ID())
		switch {
		case errors.Is(err, registry.ErrNotFound) && stored[i] == 0:
		case err != nil:
			t.Errorf("key %d: %v, and %d was stored", i, err, stored[i])
		case r.Sequence != stored[i] && r.Sequence != stored[i]+1 && stored[i] != 0:
			t.Errorf("key %d: %d is stored, and %d was", i, r.Sequence, stored[i])
		default:
			stored[i] = r.Sequence
			if id, err := d.Resolve(t.Context(), fmt.Sprintf("peer-%d", i)); err != nil || id != k.ID() {
				t.Errorf("key %d: Resolve: %v, %v", i, id, err)
			}
		}
	}
}

const sharers, shared = 3, 40

// share publishes newer and newer records of one key that all have, and one of each of many new keys, and tries to be
// called crown. It prints the new IDs, the last one with "crown" before it if that went well.
func share(path string) error {
	ctx := context.Background()
	d, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	all, now := common(1)[0], time.Now()
	last := int64(0)
	for i := range shared {
		r, err := record(all, now.Add(time.Duration(i)*time.Millisecond).UnixMilli(), "")
		if err != nil {
			return err
		}
		if err := d.Publish(ctx, r); err != nil && !errors.Is(err, registry.ErrRollback) {
			return err
		}
		if r, err = d.Lookup(ctx, all.ID()); err != nil || r.Sequence < last {
			return fmt.Errorf("sequence %d after %d: %w", r.Sequence, last, err)
		}
		last = r.Sequence

		k, err := identity.GenerateKey()
		if err != nil {
			return err
		}
		name, prefix := "", ""
		if i == shared-1 {
			name, prefix = "crown", "crown "
		}
		if r, err = record(k, now.UnixMilli(), name); err != nil {
			return err
		}
		err = d.Publish(ctx, r)
		if errors.Is(err, registry.ErrNameTaken) {
			prefix = "taken "
		} else if err != nil {
			return err
		}
		fmt.Fprintf(os.Stdout, "%s%v\n", prefix, k.ID())
	}
	return nil
}

// Several processes make a file at the same time and publish in it: nothing is lost, nothing goes back, and a name is
// given to one of them.
func TestProcesses(t *testing.T) {
	path := newPath(t)
	var outs []*bufio.Reader
	var wait []func()
	for range sharers {
		cmd, stdout, stderr := child(t, "share", path)
		outs = append(outs, stdout)
		wait = append(wait, func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, stderr)
			}
		})
	}
	d := open(t, path, sqlite.Options{}) // with the others
	var ids []string
	var crown string
	taken := 0
	for _, out := range outs {
		all, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(all)) {
			switch prefix, id, ok := strings.Cut(strings.TrimSpace(line), " "); {
			case !ok:
				ids = append(ids, prefix)
			case prefix == "taken":
				taken++
			default:
				ids = append(ids, id)
				crown = id
			}
		}
	}
	for _, w := range wait {
		w()
	}
	if want := sharers*(shared-1) + 1; len(ids) != want || taken != sharers-1 {
		t.Fatalf("%d were published, and %d names taken; want %d and %d", len(ids), taken, want, sharers-1)
	}
	for _, text := range ids {
		id, err := identity.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Lookup(t.Context(), id); err != nil {
			t.Errorf("Lookup: %v", err)
		}
	}
	if id, err := d.Resolve(t.Context(), "crown"); err != nil || id.String() != crown {
		t.Errorf("crown is %v, %v; want %s", id, err, crown)
	}
}
