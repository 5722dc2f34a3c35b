package keychain

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// alone makes this test program one that asks the real keychain, on a bus that is not there, and prints the answer.
// It is another process because go-keyring's mock stays once it is set.
const alone = "KEYCHAIN_TEST_ALONE"

func TestMain(m *testing.M) {
	if os.Getenv(alone) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	_, err := Get("name")
	fmt.Fprint(os.Stdout, errors.Is(err, ErrUnavailable), errors.Is(getOrCreateError(), ErrUnavailable), errors.Is(Set("name", []byte("x")), ErrUnavailable))
	os.Exit(0)
}

// getOrCreateError is GetOrCreate's error alone.
func getOrCreateError() error {
	_, err := GetOrCreate("name")
	return err
}

func TestNoSecretService(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), alone+"=1", "DBUS_SESSION_BUS_ADDRESS=unix:path="+t.TempDir()+"/none")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "true true true" {
		t.Errorf("%s, %v; want ErrUnavailable three times", out, err)
	}
}
