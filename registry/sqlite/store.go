package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// An entry is what is in a peer's place.
type entry struct {
	record *registry.Record // nil when nobody has the place
	// kept marks a revocation that is kept for good.
	kept bool
}

// A querier is an [*sql.Conn] or an [*sql.Tx].
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Each of these finds its rows by an index. TestQueryPlans looks at them all.
const (
	byID   = `SELECT id, sequence, name, kept, record FROM records WHERE id = ?`
	byName = `SELECT id, sequence, name, kept, record FROM records WHERE name = ?`
	// Damaged values may be too long to be loaded. Nor is a record without the bytes of the capability.
	listed = `SELECT id, sequence, name, kept, CASE WHEN length(?2) = 0 OR instr(record, ?2) THEN record END FROM records
		WHERE id > ?1 AND length(id) = 32 AND length(record) <= 65536 AND ifnull(octet_length(name), 0) <= 64 ORDER BY id LIMIT ?3`
	remains = `SELECT sequence, kept FROM records WHERE id = ?`
	claimed = `SELECT id FROM records WHERE name = ? AND id <> ? AND sequence > ?`
	lost    = `UPDATE records SET name = NULL WHERE name = ? AND id <> ?`
	giveUp  = `DELETE FROM records WHERE place IN (SELECT place FROM records WHERE NOT kept AND sequence <= ? ORDER BY sequence LIMIT ?)`
	publish = `INSERT INTO records (id, sequence, name, kept, record) VALUES (?, ?, nullif(?, ''), ?, ?)
		ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, name = excluded.name, kept = excluded.kept, record = excluded.record`
)

// read returns the entry that the query finds, byID or byName.
func read(ctx context.Context, q querier, query string, key any) (entry, error) {
	_, e, err := scan(q.QueryRowContext(ctx, query, key))
	if errors.Is(err, sql.ErrNoRows) {
		return entry{}, nil
	}
	return e, err
}

// scan returns whose row it is, unless it is damaged so, and the entry in it. The record is parsed, and must be the one
// that its row says it is: a file can be edited, and rows can be exchanged.
func scan(row interface{ Scan(...any) error }) (id []byte, e entry, err error) {
	var (
		encoded  []byte
		sequence int64
		name     sql.NullString
	)
	if err := row.Scan(&id, &sequence, &name, &e.kept, &encoded); err != nil {
		return id, entry{}, damaged(err)
	}
	e.record, err = registry.Parse(encoded)
	switch {
	case err != nil:
		return id, entry{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	case !bytes.Equal(id, e.record.ID[:]):
		return id, entry{}, fmt.Errorf("%w: the record of %v stands in another's place", ErrDamaged, e.record.ID)
	// A name that another has taken over since is in the record still.
	case sequence != e.record.Sequence || name.Valid && name.String != e.record.Name || e.kept && !e.record.Revoked:
		return id, entry{}, fmt.Errorf("%w: the record of %v is another one than was published", ErrDamaged, e.record.ID)
	}
	return id, e, nil
}

// damaged tells what is in the file from what befell who read it: SQLite's errors stay as they are, and others say that
// there is no row, or a column with something else than it can hold.
func damaged(err error) error {
	if errors.As(err, new(*driver.Error)) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// longAgo returns the Sequence from which on back a record, and any older one of its peer, must have expired.
func longAgo(now time.Time) int64 { return now.Add(-registry.MaxLife).UnixMilli() }

// put makes r its peer's record, if it may be.
func (d *Directory) put(ctx context.Context, tx *sql.Tx, r *registry.Record, now time.Time) error {
	if err := claim(ctx, tx, r, now); err != nil {
		return err
	}
	old, err := read(ctx, tx, byID, r.ID[:])
	kept := false
	switch {
	case err != nil:
		if err := mend(ctx, tx, r, now, err); err != nil {
			return err
		}
		kept = r.Revoked
	case old.record == nil:
		if err := d.makeRoom(ctx, tx, now); err != nil {
			return err
		}
	case r.Equal(old.record):
		return nil
	case !r.Newer(old.record):
		if old.record.Revoked {
			return fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
		}
		return fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.record.Sequence).UTC().Format(time.RFC3339))
	default:
		kept = old.kept || r.Revoked && !old.record.Revoked
	}
	if r.Name != "" { // whoever else has it has lost it, says claim
		if err := exec(ctx, tx, lost, r.Name, r.ID[:]); err != nil {
			return err
		}
	}
	return exec(ctx, tx, publish, r.ID[:], r.Sequence, r.Name, kept, r.Marshal())
}

// mend returns nil when r may take the place of a row that is damaged so, and otherwise the damage. What is left of the
// row still keeps its peer from being rolled back, and a revocation that was kept for good gives way only to another.
func mend(ctx context.Context, tx *sql.Tx, r *registry.Record, now time.Time, damage error) error {
	if !errors.Is(damage, ErrDamaged) && !is(damage, codes.SQLITE_TOOBIG) {
		return damage // the file is, or could not be read
	}
	var sequence, kept int64
	if err := tx.QueryRowContext(ctx, remains, r.ID[:]).Scan(&sequence, &kept); err != nil {
		return damage
	}
	older := r.Sequence <= sequence && sequence <= now.Add(registry.MaxSkew).UnixMilli() // no record is from after that
	if !r.Revoked && (kept != 0 || older) {
		return damage
	}
	return nil
}

// claim fails when another has the name.
func claim(ctx context.Context, tx *sql.Tx, r *registry.Record, now time.Time) error {
	var holder []byte
	err := tx.QueryRowContext(ctx, claimed, r.Name, r.ID[:], longAgo(now)).Scan(&holder)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case len(holder) != identity.Size:
		return fmt.Errorf("%w: %x is no ID", ErrDamaged, holder)
	}
	return fmt.Errorf("%w: %q is %v's", registry.ErrNameTaken, r.Name, identity.ID(holder))
}

// makeRoom gives up places if all are taken, and fails when there is none for a newcomer.
func (d *Directory) makeRoom(ctx context.Context, tx *sql.Tx, now time.Time) error {
	var held int
	if err := tx.QueryRowContext(ctx, `SELECT records FROM total`).Scan(&held); err != nil {
		return damaged(err)
	}
	excess := held + 1 - d.max
	if excess <= 0 {
		return nil
	}
	done, err := tx.ExecContext(ctx, giveUp, longAgo(now), excess)
	if err != nil {
		return err
	}
	if gone, err := done.RowsAffected(); err != nil {
		return err
	} else if gone < int64(excess) {
		return fmt.Errorf("%w (it holds %d records)", registry.ErrFull, held)
	}
	return nil
}

func exec(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}
