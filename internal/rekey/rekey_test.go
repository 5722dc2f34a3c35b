package rekey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// pair returns both ends of a session with the given paths.
func pair(t testing.TB, ids ...uint32) (d, r *State) {
	t.Helper()
	first := exporterOfPath(1)
	d, r = New(true, &first, Limits{}, start), New(false, &first, Limits{}, start)
	for _, id := range ids {
		e := exporterOfPath(id)
		if err := errors.Join(d.Join(id, &e), r.Join(id, &e)); err != nil {
			t.Fatal(err)
		}
	}
	return d, r
}

// exchange does the two messages of a commit and returns the keys of both ends.
func exchange(t testing.TB, d, r *State) (body, answer []byte, rOpen, dOpen, dSeal []Key) {
	t.Helper()
	body, err := d.proposeNew()
	if err != nil {
		t.Fatal(err)
	}
	answer, rOpen, err = r.handlePropose(start, body)
	if err != nil {
		t.Fatal(err)
	}
	dOpen, dSeal, err = d.handleAccept(start, answer)
	if err != nil {
		t.Fatal(err)
	}
	return body, answer, rOpen, dOpen, dSeal
}

// settle says that pings and pongs came, and returns what the responder seals with.
func settle(d, r *State, keys []Key) (rSeal []Key) {
	for _, k := range keys {
		if seal, ok := r.Opened(k.Path, k.Epoch); ok {
			rSeal = append(rSeal, seal)
		}
		d.Opened(k.Path, k.Epoch)
	}
	return rSeal
}

func TestCommit(t *testing.T) {
	d, r := pair(t, 1, 2, 7)
	for epoch := uint32(1); epoch <= 3; epoch++ {
		_, _, rOpen, dOpen, dSeal := exchange(t, d, r)
		rSeal := settle(d, r, dOpen)
		if len(rOpen) != 3 || !slices.Equal(rOpen, dSeal) || !slices.Equal(rSeal, dOpen) {
			t.Fatalf("epoch %d: the ends differ: %v %v, %v %v", epoch, rOpen, dSeal, rSeal, dOpen)
		}
		for i, id := range []uint32{1, 2, 7} {
			if k := dSeal[i]; k.Path != id || k.Epoch != epoch || k.Secret == dOpen[i].Secret || k.Secret == dSeal[(i+1)%3].Secret {
				t.Errorf("epoch %d: %v", epoch, k)
			}
		}
		if d.Commits() != epoch || r.Commits() != epoch {
			t.Errorf("commits %d, %d, want %d", d.Commits(), r.Commits(), epoch)
		}
	}
}

// A path that joins between two commits is in its epoch 0 while others are not.
func TestEpochsArePerPath(t *testing.T) {
	d, r := pair(t, 1)
	_, _, rOpen, _, _ := exchange(t, d, r)
	settle(d, r, rOpen)
	e := exporterOfPath(2)
	if err := errors.Join(d.Join(2, &e), r.Join(2, &e)); err != nil {
		t.Fatal(err)
	}
	_, _, rOpen, _, dSeal := exchange(t, d, r)
	if len(rOpen) != 2 || rOpen[0].Epoch != 2 || rOpen[1].Epoch != 1 || !slices.Equal(rOpen, dSeal) {
		t.Errorf("%v, %v", rOpen, dSeal)
	}
}

// Who missed a path that moves, has other secrets; but only from its first
// commit on: then its secret is in the root, and forgotten.
func TestMissedPath(t *testing.T) {
	d, r := pair(t, 1, 2)
	r.path(2).exporter[31] ^= 1
	_, _, rOpen, _, dSeal := exchange(t, d, r)
	for i := range rOpen {
		if rOpen[i].Secret == dSeal[i].Secret {
			t.Errorf("the %v is known to who missed path 2", rOpen[i])
		}
	}

	d, r = pair(t, 1, 2)
	_, _, rOpen, _, _ = exchange(t, d, r)
	settle(d, r, rOpen)
	for _, s := range []*State{d, r} {
		for _, p := range s.paths {
			if p.exporter != [32]byte{} || p.seal != [32]byte{} {
				t.Errorf("%v still has secrets of path %d", s, p.id)
			}
		}
	}
	if d.proposal != nil {
		t.Error("the proposal was kept")
	}
}

// Everything that goes into a commit changes what comes out of it.
func TestWhatIsMixed(t *testing.T) {
	mix := func(change func(shared, kem []byte, exporter, root *[32]byte, propose, accept []byte)) [32]byte {
		shared, kem := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		exporter, root := [32]byte{3}, [32]byte{4}
		propose, accept := []byte{5}, []byte{6}
		change(shared, kem, &exporter, &root, propose, accept)
		var m secrets
		m.add(shared)
		m.add(kem)
		m.addPath(&path{exporter: exporter})
		return m.next(&root, propose, accept)
	}
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(shared, kem []byte, exporter, root *[32]byte, propose, accept []byte){
		"nothing":  func(_, _ []byte, _, _ *[32]byte, _, _ []byte) {},
		"X25519":   func(b, _ []byte, _, _ *[32]byte, _, _ []byte) { b[0]++ },
		"ML-KEM":   func(_, b []byte, _, _ *[32]byte, _, _ []byte) { b[0]++ },
		"exporter": func(_, _ []byte, b, _ *[32]byte, _, _ []byte) { b[0]++ },
		"root":     func(_, _ []byte, _, b *[32]byte, _, _ []byte) { b[0]++ },
		"propose":  func(_, _ []byte, _, _ *[32]byte, b, _ []byte) { b[0]++ },
		"accept":   func(_, _ []byte, _, _ *[32]byte, _, b []byte) { b[0]++ },
	} {
		root := mix(change)
		if other, there := seen[root]; there {
			t.Errorf("the same with %s and with %s changed", name, other)
		}
		seen[root] = name
	}
	// Fresh keys at each commit: two sessions alike go different ways.
	d1, r1 := pair(t, 1)
	d2, r2 := pair(t, 1)
	if d1.root != d2.root {
		t.Fatal("they are not alike")
	}
	exchange(t, d1, r1)
	exchange(t, d2, r2)
	if d1.root == d2.root {
		t.Error("a commit depends on nothing but the secrets before it")
	}
}

func TestSimultaneousWishes(t *testing.T) {
	d, r := pair(t, 1)
	late := start.Add(24 * time.Hour)
	if d.Due(late.Add(-1)) || r.Due(late.Add(-1)) || !d.Due(late) || !r.Due(late) || !d.DueAt().Equal(late) {
		t.Fatal("not due at the age of a day")
	}
	r.Wish()
	if r.Due(late) {
		t.Error("the responder wishes twice")
	}
	body, err := d.proposeNew()
	if err != nil {
		t.Fatal(err)
	}
	if d.Due(late) {
		t.Error("the dialler proposes twice")
	}
	if err := d.HandleWish(); err != nil { // crossed with the proposal
		t.Fatal(err)
	}
	answer, rOpen, err := r.handlePropose(late, body)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = d.handleAccept(late, answer); err != nil {
		t.Fatal(err)
	}
	settle(d, r, rOpen)
	if d.Due(late) || r.Due(late) {
		t.Error("a wish that was granted is still there")
	}

	// A wish while paths still move waits for them.
	_, _, rOpen, _, _ = exchange(t, d, r)
	if err := d.HandleWish(); err != nil || d.Due(start) {
		t.Errorf("due while paths move, %v", err)
	}
	settle(d, r, rOpen)
	if !d.Due(start) {
		t.Error("the wish was forgotten")
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		frames, bytes int
		want          bool
	}{{1<<30 - 1, 1e9 - 1, false}, {1 << 30, 1, true}, {1, 1e9, true}} {
		d, r := pair(t, 1, 2)
		for _, s := range []*State{d, r} {
			s.Sealed(2, tt.frames-1, tt.bytes-1)
			s.Sealed(1, 1, 1)
			s.Sealed(9, math.MaxInt, math.MaxInt) // a path that died
			s.Sealed(2, 1, 1)
			if s.Due(start) != tt.want {
				t.Errorf("%+v: due is %v", tt, !tt.want)
			}
		}
		_, _, rOpen, _, _ := exchange(t, d, r)
		settle(d, r, rOpen)
		if d.Due(start) || r.Due(start) {
			t.Errorf("%+v: due with a new key", tt)
		}
	}
	d, _ := pair(t)
	if d.Due(start.Add(1000 * time.Hour)) {
		t.Error("due without a path")
	}
}

// Paths die at any point of a commit.
func TestDeaths(t *testing.T) {
	t.Run("before the proposal arrives", func(t *testing.T) {
		d, r := pair(t, 1, 2)
		body, _ := d.proposeNew()
		r.Leave(2)
		answer, open, err := r.handlePropose(start, body)
		if err != nil || len(open) != 1 {
			t.Fatal(open, err)
		}
		_, seal, err := d.handleAccept(start, answer)
		if err != nil || !slices.Equal(seal, open) {
			t.Fatal(seal, err)
		}
		settle(d, r, open) // path 2, which the dialler still has, stays as it was
		exchange(t, d, r)
	})
	t.Run("all", func(t *testing.T) {
		d, r := pair(t, 1)
		body, _ := d.proposeNew()
		r.Leave(1)
		d.Leave(1)
		answer, open, err := r.handlePropose(start, body)
		if err != nil || len(open) != 0 {
			t.Fatal(open, err)
		}
		if _, seal, err := d.handleAccept(start, answer); err != nil || len(seal) != 0 || d.root != r.root {
			t.Fatal(seal, err)
		}
	})
	t.Run("before the answer arrives", func(t *testing.T) {
		d, r := pair(t, 1, 2)
		body, _ := d.proposeNew()
		answer, open, _ := r.handlePropose(start, body)
		d.Leave(2) // its exporter was mixed in all the same
		dOpen, seal, err := d.handleAccept(start, answer)
		if err != nil || len(dOpen) != 1 || !slices.Equal(seal, open[:1]) {
			t.Fatal(seal, err)
		}
		settle(d, r, dOpen)
		if _, err := d.proposeNew(); err != nil {
			t.Errorf("a dead path holds the next commit up: %v", err)
		}
	})
	t.Run("before its first new frame", func(t *testing.T) {
		d, r := pair(t, 1, 2)
		_, _, open, _, _ := exchange(t, d, r)
		settle(d, r, open[:1])
		if _, err := d.proposeNew(); !errors.Is(err, ErrEarly) {
			t.Errorf("proposed while path 2 moves: %v", err)
		}
		d.Leave(2) // the responder has not heard of it, and path 2 still moves there
		_, _, open, _, _ = exchange(t, d, r)
		if len(open) != 1 || open[0].Path != 1 {
			t.Errorf("%v moved", open)
		}
	})
}

func TestOpened(t *testing.T) {
	d, r := pair(t, 1)
	if _, ok := r.Opened(1, 0); ok {
		t.Error("a key before any commit")
	}
	exchange(t, d, r)
	for _, id := range []uint32{2, 1} {
		if _, ok := r.Opened(id, 0); ok {
			t.Error("a key for a frame of the old epoch, or of no path")
		}
	}
	if _, ok := r.Opened(1, 1); !ok {
		t.Error("no key")
	}
	if _, ok := r.Opened(1, 1); ok {
		t.Error("a second key")
	}
	if _, ok := d.Opened(1, 1); ok {
		t.Error("a key for the dialler, who has it")
	}
}

func TestJoin(t *testing.T) {
	d, _ := pair(t, 1, 2, 3, 4, 5, 6, 7)
	for _, id := range []uint32{0, 1, 7} {
		if err := d.Join(id, &[32]byte{1}); !errors.Is(err, ErrPaths) {
			t.Errorf("path %d: %v", id, err)
		}
	}
	if err := errors.Join(d.Join(9, &[32]byte{9}), d.Join(8, &[32]byte{1})); !errors.Is(err, ErrPaths) {
		t.Errorf("a ninth path: %v", err)
	}
	d.Leave(100)
	if body, err := d.proposeNew(); err != nil || len(body) != MaxProposeSize {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestClose(t *testing.T) {
	d, r := pair(t, 1, 2)
	body, _ := d.proposeNew()
	kept := d.proposal
	answer, _, _ := r.handlePropose(start, body)
	secret := r.paths[1]
	d.Close()
	r.Close()
	for _, p := range kept.paths {
		if p.exporter != [32]byte{} {
			t.Error("the proposal keeps an exporter")
		}
	}
	if d.root != [32]byte{} || r.root != [32]byte{} || secret.seal != [32]byte{} || len(d.paths) != 0 {
		t.Error("secrets are left")
	}
	if _, _, err := d.handleAccept(start, answer); err == nil {
		t.Error("a closed State accepts")
	}
	if _, err := d.proposeNew(); err == nil {
		t.Error("a closed State proposes")
	}
}

// No verb of fmt, log or JSON shows a secret.
func TestFormat(t *testing.T) {
	d, r := pair(t, 1)
	_, _, keys, _, _ := exchange(t, d, r)
	k := keys[0]
	const want = "key of path 1, epoch 1 (secret withheld)"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, k); got != want {
			t.Errorf("%s: %s", verb, got)
		}
		if got := fmt.Sprintf(verb, d); got != "rekey.State(commit 1, 1 paths)" {
			t.Errorf("%s: %s", verb, got)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	j, err := json.Marshal(k)
	if err != nil || string(j) != `"`+want+`"` || !strings.Contains(log.String(), want) {
		t.Errorf("%s, %s, %v", j, &log, err)
	}
}

func BenchmarkCommit(b *testing.B) {
	d, r := pair(b, 1, 2, 3)
	for b.Loop() {
		_, _, open, _, _ := exchange(b, d, r)
		settle(d, r, open)
	}
}
