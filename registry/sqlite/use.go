package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

// use runs f on a connection of db's, as soon as there is one, and again for as long as another process's lock is in its
// way.
//
// While it waits it hears of ctx. What f does then is short, and f's context does not end: a statement is done or fails,
// and is not cut short in a goroutine that nobody waits for.
func use(ctx context.Context, db *sql.DB, f func(context.Context, *sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer conn.Close()
	if _, err := driver.Limit(conn, codes.SQLITE_LIMIT_LENGTH, maxLength); err != nil {
		return err
	}
	for deadline := time.Now().Add(lockTimeout); ; {
		err := f(context.WithoutCancel(ctx), conn)
		if !is(err, codes.SQLITE_BUSY) {
			return explain(err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another process keeps the file locked: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond): // some attempts fail at once
		}
	}
}

// write runs f in a transaction that holds the file's only write lock from the start, so that what f reads stays true. An
// error of f undoes what it did.
func write(ctx context.Context, db *sql.DB, f func(context.Context, *sql.Tx) error) error {
	return use(ctx, db, func(ctx context.Context, c *sql.Conn) error {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after Commit it does nothing
		if err := f(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// is reports whether err is SQLite's with that code, or a more exact form of it.
func is(err error, code int) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == code
}

// explain adds what SQLite's error means to us.
func explain(err error) error {
	for _, code := range []int{
		codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB,
		codes.SQLITE_TOOBIG,                         // more than maxLength
		codes.SQLITE_ERROR, codes.SQLITE_CONSTRAINT, // our statements are right, so the schema is not ours
	} {
		if is(err, code) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}
