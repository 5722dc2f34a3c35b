package mdns

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// TestMain is also what the processes of TestTwoProcesses start in.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	if role := os.Getenv(meshVariable); role != "" {
		os.Exit(playMesh(role))
	}
	goleak.VerifyTestMain(m)
}

var noon = registrytest.NewClock().Now()

// named returns a signed record that is called name.
func named(t testing.TB, at time.Time, name string) *registry.Record {
	t.Helper()
	r := registrytest.Draft(t, at)
	r.Name = name
	if err := r.Sign(registrytest.Key(t)); err != nil {
		t.Fatal(err)
	}
	return r
}

// networkKey returns a network key for each n but 0, for which it is nil.
func networkKey(n byte) *[32]byte {
	if n == 0 {
		return nil
	}
	return &[32]byte{n}
}
