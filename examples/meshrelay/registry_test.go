package main

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/registry"
)

// TestOwnRecord: the relay's record is signed once a minute, also when one was signed by a clock that was a day ahead and
// has been put right since: nobody would take that one.
func TestOwnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, made := 24*time.Hour, 0
		d := new(directoryServer)
		d.serveOwn(func() (*registry.Record, error) {
			made++
			return &registry.Record{Sequence: time.Now().Add(ahead).UnixMilli()}, nil
		}, slog.New(slog.DiscardHandler))
		first := d.own()
		ahead = 0
		if d.own() != first || made != 1 {
			t.Errorf("signed %d times at once", made)
		}
		time.Sleep(maxOwnAge)
		if now := d.own(); now == first || now.Sequence != time.Now().UnixMilli() {
			t.Error("the record is a day ahead still")
		}
	})
}
