package store

import (
	"database/sql"
	"errors"
)

// put keeps a named thing.
func (t *Tx) put(k kind, name []byte, v any) error {
	sealed, err := t.s.seal(v, k, name, 0)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `INSERT INTO named VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET sealed = ?3`, int(k), name, sealed)
	return err
}

// get reports whether there is such a thing. One that is damaged is not there.
func (t *Tx) get(k kind, name []byte, v any) (bool, error) {
	var sealed []byte
	err := t.tx.QueryRowContext(t.ctx, `SELECT substr(sealed, 1, ?3) FROM named WHERE kind = ?1 AND name = ?2`, int(k), name, maxRow+1).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil && t.s.open(sealed, v, k, name, 0), err
}

func (t *Tx) drop(k kind, name []byte) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM named WHERE kind = ? AND name = ?`, int(k), name)
	return err
}

// all returns the sound things of a kind.
func all[T any](t *Tx, k kind) (out []T, err error) {
	rows, err := t.tx.QueryContext(t.ctx, `SELECT name, substr(sealed, 1, ?2) FROM named WHERE kind = ?1`, int(k), maxRow+1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, sealed []byte
		if err := rows.Scan(&name, &sealed); err != nil {
			return nil, err
		}
		var v T
		if t.s.open(sealed, &v, k, name, 0) {
			out = append(out, v)
		}
	}
	return out, rows.Err()
}

func (t *Tx) count(k kind) (n int, err error) {
	err = t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM named WHERE kind = ?`, int(k)).Scan(&n)
	return n, err
}

// push adds a thing at the end of a list, and returns its number.
func (t *Tx) push(k kind, owner []byte, v any) (number int64, err error) {
	if err = t.tx.QueryRowContext(t.ctx, `SELECT coalesce(max(number), 0) + 1 FROM listed WHERE kind = ? AND owner = ?`, int(k), owner).Scan(&number); err != nil {
		return 0, err
	}
	return number, t.set(k, owner, number, v)
}

// set puts a thing at its place in a list.
func (t *Tx) set(k kind, owner []byte, number int64, v any) error {
	sealed, err := t.s.seal(v, k, owner, number)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `INSERT INTO listed VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET sealed = ?4`, int(k), owner, number, sealed)
	return err
}

// at reports whether there is a thing with that number.
func (t *Tx) at(k kind, owner []byte, number int64, v any) (bool, error) {
	var sealed []byte
	err := t.tx.QueryRowContext(t.ctx, `SELECT substr(sealed, 1, ?4) FROM listed WHERE kind = ?1 AND owner = ?2 AND number = ?3`, int(k), owner, number, maxRow+1).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil && t.s.open(sealed, v, k, owner, number), err
}

func (t *Tx) cut(k kind, owner []byte, number int64) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM listed WHERE kind = ? AND owner = ? AND number = ?`, int(k), owner, number)
	return err
}

func (t *Tx) cutAll(k kind, owner []byte) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM listed WHERE kind = ? AND owner = ?`, int(k), owner)
	return err
}

func (t *Tx) length(k kind, owner []byte) (n int, err error) {
	err = t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM listed WHERE kind = ? AND owner = ?`, int(k), owner).Scan(&n)
	return n, err
}

// trim leaves a list, from which nothing was cut, the n things up to the last.
func (t *Tx) trim(k kind, owner []byte, last, n int64) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM listed WHERE kind = ? AND owner = ? AND number <= ?`, int(k), owner, last-n)
	return err
}

// lighten leaves a list the last things that have at most so many bytes together.
func (t *Tx) lighten(k kind, owner []byte, size int) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM listed WHERE kind = ?1 AND owner = ?2 AND number <= (SELECT max(number) FROM
		(SELECT number, sum(length(sealed)) OVER (ORDER BY number DESC) AS weight FROM listed WHERE kind = ?1 AND owner = ?2) WHERE weight > ?3)`,
		int(k), owner, size)
	return err
}

// A row is one of a list. V is nil when it is damaged.
type row[T any] struct {
	number int64
	v      *T
}

// list returns the first n of a list whose number is above after, or the last n, ascending by number.
func list[T any](t *Tx, k kind, owner []byte, after int64, n int, last bool) (out []row[T], err error) {
	query := `SELECT number, substr(sealed, 1, ?4) FROM listed WHERE kind = ?1 AND owner = ?2 AND number > ?5 ORDER BY number LIMIT ?3`
	if last {
		query = `SELECT * FROM (SELECT number, substr(sealed, 1, ?4) FROM listed WHERE kind = ?1 AND owner = ?2 AND number > ?5 ORDER BY number DESC LIMIT ?3) ORDER BY number`
	}
	rows, err := t.tx.QueryContext(t.ctx, query, int(k), owner, n, maxRow+1, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := row[T]{v: new(T)}
		var sealed []byte
		if err := rows.Scan(&r.number, &sealed); err != nil {
			return nil, err
		}
		if !t.s.open(sealed, r.v, k, owner, r.number) {
			r.v = nil
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
