package main

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLoad: a small load on a real relay, whose peers come and go, loses nothing. What a circuit costs shows with more.
func TestLoad(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	f, err := load(ctx, options{circuits: 40, lasts: 5 * time.Second, life: 2 * time.Second})
	if err != nil || f.lost != 0 {
		t.Error(f, err)
	}
	t.Logf("%+v", f)
}
