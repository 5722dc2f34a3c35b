package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

func Example() {
	if err := publishAndLookup(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: true
}

func publishAndLookup(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "sqlite")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	directory, err := sqlite.Open(ctx, filepath.Join(dir, "records.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	defer directory.Close()

	key, err := identity.GenerateKey()
	if err != nil {
		return err
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Capabilities: []string{registry.CapRelay}}
	if err := r.Sign(key); err != nil {
		return err
	}
	if err := directory.Publish(ctx, r); err != nil {
		return err
	}
	found, err := directory.Lookup(ctx, key.ID())
	if err != nil {
		return err
	}
	fmt.Println(found.Has(registry.CapRelay))
	return nil
}
