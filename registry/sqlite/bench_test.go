package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// BenchmarkDirectory measures a directory that holds many records, or few: what a method costs should not depend on it.
func BenchmarkDirectory(b *testing.B) {
	for _, held := range []int{1, DefaultMaxRecords} {
		d, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), Options{MaxRecords: 1 << 30})
		if err != nil {
			b.Fatal(err)
		}
		now := time.Now()
		key := registrytest.Key(b)
		err = write(b.Context(), d.writer, func(ctx context.Context, tx *sql.Tx) error { // one sync for all
			for i := range held {
				if i > 0 {
					key = registrytest.Key(b)
				}
				if err := d.put(ctx, tx, registrytest.Signed(b, key, now), now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		publish := func(b *testing.B, key func() *identity.Key) {
			for b.Loop() {
				now = now.Add(time.Millisecond)
				if err := d.Publish(b.Context(), registrytest.Signed(b, key(), now)); err != nil {
					b.Fatal(err)
				}
			}
		}
		d.now = func() time.Time { return now }
		b.Run(fmt.Sprintf("renew/of=%d", held), func(b *testing.B) { publish(b, func() *identity.Key { return key }) })
		b.Run(fmt.Sprintf("newcomer/of=%d", held), func(b *testing.B) {
			publish(b, func() *identity.Key { return registrytest.Key(b) })
		})
		b.Run(fmt.Sprintf("lookup/of=%d", held), func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Lookup(b.Context(), key.ID()); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
