package sqlite_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

// A victim is a directory of three peers with names, in a file that is then damaged.
type victim struct {
	path    string
	clock   *registrytest.Clock
	keys    []*identity.Key
	records []*registry.Record
}

var victims = []string{"ann", "bob", "cy"}

func newVictim(t *testing.T) *victim {
	v := &victim{path: newPath(t), clock: registrytest.NewClock(), keys: keys(t, len(victims))}
	d := v.open(t)
	for i, k := range v.keys {
		r := named(t, k, v.clock.Now(), victims[i])
		v.records = append(v.records, r)
		if err := d.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) open(t *testing.T) *sqlite.Directory {
	return open(t, v.path, sqlite.Options{Now: v.clock.Now})
}

// suffers checks that every method refuses to say anything about peer i.
func (v *victim) suffers(t *testing.T, d *sqlite.Directory, i int) {
	t.Helper()
	r, err := d.Lookup(t.Context(), v.keys[i].ID())
	wantDamaged(t, "Lookup", err)
	if r != nil {
		t.Errorf("Lookup returns %+v and an error", r)
	}
	standing, err := d.Standing(t.Context(), v.keys[i].ID())
	wantDamaged(t, "Standing", err)
	if standing != registry.Unknown {
		t.Errorf("Standing returns %v and an error", standing)
	}
	wantDamaged(t, "Publish", d.Publish(t.Context(), v.records[i])) // which is not newer
	if v.lists(t, d, i) {
		t.Errorf("List returns what Lookup does not")
	}
}

// lists reports whether peer i is listed as it was published.
func (v *victim) lists(t *testing.T, d *sqlite.Directory, i int) bool {
	t.Helper()
	page, next, err := d.List(t.Context(), identity.ID{}, 100, registry.CapRelay)
	if err != nil || !next.IsZero() {
		t.Errorf("List: %v, %v", next, err)
	}
	return slices.ContainsFunc(page, v.records[i].Equal)
}

func wantDamaged(t *testing.T, what string, err error) {
	t.Helper()
	var re *registry.RecordError
	if !errors.Is(err, sqlite.ErrDamaged) || !errors.As(err, &re) {
		t.Errorf("%s: %v, want ErrDamaged in a *RecordError", what, err)
	}
}

// thrives checks that peer i is served as before.
func (v *victim) thrives(t *testing.T, d *sqlite.Directory, i int) {
	t.Helper()
	if r, err := d.Lookup(t.Context(), v.keys[i].ID()); err != nil || !r.Equal(v.records[i]) {
		t.Errorf("Lookup: %v, %v; want %v", r, err, v.records[i])
	}
	if s, err := d.Standing(t.Context(), v.keys[i].ID()); err != nil || s != registry.Active {
		t.Errorf("Standing: %v, %v", s, err)
	}
	if id, err := d.Resolve(t.Context(), victims[i]); err != nil || id != v.keys[i].ID() {
		t.Errorf("Resolve: %v, %v", id, err)
	}
	if !v.lists(t, d, i) {
		t.Error("it is not listed")
	}
	v.clock.Advance(1e9)
	v.records[i] = named(t, v.keys[i], v.clock.Now(), victims[i])
	if err := d.Publish(t.Context(), v.records[i]); err != nil {
		t.Errorf("Publish: %v", err)
	}
}

// Whatever byte of a record somebody changes, that record is refused, and no other.
func TestChangedRecord(t *testing.T) {
	v := newVictim(t)
	d, db := v.open(t), raw(t, v.path)
	sound := v.records[1].Marshal()
	for i := range sound {
		changed := v.records[1].Marshal()
		changed[i] ^= 1 << rand.IntN(8)
		execute(t, db, `UPDATE records SET record = ? WHERE name = 'bob'`, changed)
		v.suffers(t, d, 1)
		_, err := d.Resolve(t.Context(), "bob")
		wantDamaged(t, "Resolve", err)
	}
	v.thrives(t, d, 0)
	v.thrives(t, d, 2)
	for name, record := range map[string][]byte{
		"empty": {}, "short": sound[:len(sound)-1], "long": append(sound, 0), "huge": make([]byte, 8<<20),
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, db, `UPDATE records SET record = ? WHERE name = 'bob'`, record)
			v.suffers(t, d, 1)
			_, err := d.Lookup(t.Context(), v.keys[1].ID())
			if loaded := !strings.Contains(err.Error(), "too big"); loaded != (len(record) < 64<<10) {
				t.Errorf("%d bytes: %v", len(record), err)
			}
		})
	}
	v.thrives(t, d, 0)
	execute(t, db, `UPDATE records SET record = ? WHERE name = 'bob'`, v.records[1].Marshal())
	v.thrives(t, d, 1)
}

// Genuine records in places that are not theirs are refused: another peer's, an older one, one with a name that it does
// not have.
func TestMovedRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		edit     string
		suffers  []int
		resolves []string
	}{
		"two exchanged": {
			`UPDATE records SET record = iif(name = 'ann', :bob, :ann) WHERE name IN ('ann', 'bob')`,
			[]int{0, 1}, []string{"ann", "bob"},
		},
		"an older one": {`UPDATE records SET record = :old WHERE name = 'bob'`, []int{1}, []string{"bob"}},
		"a huge name":  {`UPDATE records SET name = hex(zeroblob(1 << 20)) WHERE name = 'bob'`, []int{1}, nil},
		"another name": {`UPDATE records SET name = 'eve' WHERE name = 'bob'`, []int{1}, []string{"eve"}},
		"kept":         {`UPDATE records SET kept = 1 WHERE name = 'bob'`, []int{1}, []string{"bob"}},
		"kept, oddly":  {`UPDATE records SET kept = 7 WHERE name = 'bob'`, []int{1}, []string{"bob"}},
		"another's place": {
			`UPDATE records SET id = x'00' WHERE name = 'bob'; UPDATE records SET id = :id WHERE name = 'ann'`,
			[]int{1}, []string{"ann", "bob"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			old := v.records[1].Marshal()
			d := v.open(t)
			v.thrives(t, d, 1) // publishes a newer one
			id := v.keys[1].ID()
			edit(t, v.path, tc.edit, sql.Named("old", old), sql.Named("id", id[:]),
				sql.Named("ann", v.records[0].Marshal()), sql.Named("bob", v.records[1].Marshal()))
			for _, i := range tc.suffers {
				v.suffers(t, d, i)
			}
			for _, name := range tc.resolves {
				_, err := d.Resolve(t.Context(), name)
				wantDamaged(t, "Resolve", err)
			}
			v.thrives(t, d, 2)
		})
	}
}

// Whoever lost its record to damage publishes another, but none that could roll it back, and not where it was revoked.
func TestDamagedRowIsMended(t *testing.T) {
	for name, damage := range map[string]string{
		"changed":            `UPDATE records SET record = x'00' WHERE id = ?`,
		"huge":               `UPDATE records SET record = zeroblob(8 << 20) WHERE id = ?`,
		"kept oddly":         `UPDATE records SET record = x'00', kept = 7 * kept WHERE id = ?`,
		"from the far end":   `UPDATE records SET sequence = 9223372036854775807 WHERE id = ?`,
		"named after nobody": `UPDATE records SET name = hex(id) WHERE id = ?`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newSmall(t, 0)
			ann, bob := keys(t, 1)[0], keys(t, 1)[0]
			older := registrytest.Signed(t, ann, d.clock.Now().Add(-1e9))
			d.publish(t, d.signed(t, ann), nil)
			d.publish(t, d.signed(t, bob), nil)
			d.publish(t, registrytest.Revocation(t, bob, d.clock.Now()), nil)
			db := raw(t, d.path)
			for _, k := range []*identity.Key{ann, bob} {
				id := k.ID()
				execute(t, db, damage, id[:])
				_, err := d.Lookup(t.Context(), id)
				wantDamaged(t, "Lookup", err)
			}
			if name != "from the far end" {
				d.publish(t, older, sqlite.ErrDamaged)
			}
			d.clock.Advance(1e9)
			d.publish(t, d.signed(t, ann), nil)
			d.is(t, ann, registry.Active)
			d.publish(t, d.signed(t, bob), sqlite.ErrDamaged)
			d.publish(t, registrytest.Revocation(t, bob, d.clock.Now()), nil)
			d.is(t, bob, registry.Revoked)
			if kept := query[int](t, db, `SELECT count(*) FROM records WHERE kept`); kept != 1 {
				t.Errorf("%d revocations are kept for good", kept)
			}
		})
	}
}

// becomes puts b in the place of the file, and nothing beside it.
func (v *victim) becomes(t *testing.T, b []byte) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(v.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	writeFile(t, v.path, b)
}

// looks opens what is left of the file and looks at every peer: each answer is the truth, nothing, or an error.
func (v *victim) looks(t *testing.T) (sound int) {
	t.Helper()
	d, err := sqlite.Open(t.Context(), v.path, sqlite.Options{Now: v.clock.Now})
	if err != nil {
		if !errors.Is(err, sqlite.ErrDamaged) && !errors.Is(err, sqlite.ErrNotOurs) && !errors.Is(err, sqlite.ErrNewer) {
			t.Errorf("Open: %v", err)
		}
		return 0
	}
	defer d.Close()
	for i, k := range v.keys {
		r, err := d.Lookup(t.Context(), k.ID())
		switch {
		case err == nil && r.Equal(v.records[i]):
			sound++
		case errors.Is(err, registry.ErrNotFound), errors.Is(err, sqlite.ErrDamaged):
		default:
			t.Errorf("Lookup: %v, %v", r, err)
		}
		id, err := d.Resolve(t.Context(), victims[i])
		switch {
		case err == nil && id == k.ID(), errors.Is(err, registry.ErrNotFound), errors.Is(err, sqlite.ErrDamaged):
		default:
			t.Errorf("Resolve: %v, %v", id, err)
		}
	}
	// Whether this succeeds depends on where the damage is.
	_ = d.Publish(t.Context(), named(t, v.keys[0], v.clock.Now().Add(1e9), "ann"))
	return sound
}

// A file that was cut off anywhere never makes the package panic, hang or invent.
func TestTruncatedFile(t *testing.T) {
	v := newVictim(t)
	whole, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) {
		if size%512 > 1 { // at the sectors' borders, and behind them
			continue
		}
		v.becomes(t, whole[:size])
		// Of a page that is there in part SQLite takes the rest for zeros.
		if sound := v.looks(t); sound > 0 && size <= len(whole)-4096 {
			t.Errorf("cut to %d of %d bytes: %d records are served", size, len(whole), sound)
		}
	}
}

// The same while it is open.
func TestTruncatedWhileOpen(t *testing.T) {
	v := newVictim(t)
	d := v.open(t)
	v.thrives(t, d, 0)
	if err := os.Truncate(v.path, 4096); err != nil {
		t.Fatal(err)
	}
	for i, k := range v.keys {
		if r, err := d.Lookup(t.Context(), k.ID()); err == nil && !r.Equal(v.records[i]) {
			t.Errorf("Lookup: %v", r)
		}
		_ = d.Publish(t.Context(), named(t, k, v.clock.Now().Add(1e9), victims[i]))
	}
	_ = d.Close() // it may say what it found
}

// Nor does one in which bytes were changed at random.
func TestScribbledFile(t *testing.T) {
	v := newVictim(t)
	whole, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	sound := 0
	const rounds = 200
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 1))
		scribbled := append([]byte(nil), whole...)
		for range 1 + random.IntN(20) {
			scribbled[100+random.IntN(len(whole)-100)] ^= 1 << random.IntN(8)
		}
		v.becomes(t, scribbled)
		sound += v.looks(t)
	}
	t.Logf("%d of %d records survived", sound, rounds*len(v.keys))
	if sound == 0 {
		t.Error("no record survived: is anything read at all?")
	}
}
