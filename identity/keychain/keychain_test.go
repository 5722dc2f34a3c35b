package keychain

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"
)

func wantError(t *testing.T, err, want error, op string) {
	t.Helper()
	var ke *Error
	if !errors.Is(err, want) || !errors.As(err, &ke) || ke.Op != op || ke.Name != "name" {
		t.Fatalf("error is %v, want %v of %s", err, want, op)
	}
}

func TestStoreAndFetch(t *testing.T) {
	keyring.MockInit()
	_, err := Get("name")
	wantError(t, err, ErrNotFound, "get")
	for _, p := range []string{"first", "läßt sich lesen\n", strings.Repeat("x", MaxPassphrase)} {
		if err := Set("name", []byte(p)); err != nil {
			t.Fatal(err)
		}
		if got, err := Get("name"); err != nil || string(got) != p {
			t.Errorf("Get: %q, %v; want %q", got, err, p)
		}
	}
	if _, err := Get("other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another name: %v", err)
	}
	if err := Delete("name"); err != nil {
		t.Fatal(err)
	}
	_, err = Get("name")
	wantError(t, err, ErrNotFound, "get")
	wantError(t, Delete("name"), ErrNotFound, "delete")
}

func TestSetRefuses(t *testing.T) {
	keyring.MockInit()
	for _, p := range []string{"", "a\x00b", "a\xffb", strings.Repeat("x", MaxPassphrase+1)} {
		wantError(t, Set("name", []byte(p)), ErrPassphrase, "set")
	}
	_, err := Get("name")
	wantError(t, err, ErrNotFound, "get")
}

func TestGetOrCreate(t *testing.T) {
	keyring.MockInit()
	first, err := GetOrCreate("name")
	if err != nil || len(first) < 26 { // 26 characters of 5 bits
		t.Fatalf("a passphrase of %d bytes, %v", len(first), err)
	}
	if again, err := GetOrCreate("name"); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the second time it is another, or %v", err)
	}
	if other, err := GetOrCreate("other"); err != nil || bytes.Equal(other, first) {
		t.Errorf("another name has the same, or %v", err)
	}
}

func TestUnavailable(t *testing.T) {
	for cause, want := range map[error]error{
		errors.New("org.freedesktop.secrets was not provided"): ErrUnavailable,
		keyring.ErrUnsupportedPlatform:                         ErrUnavailable,
		keyring.ErrSetDataTooBig:                               ErrPassphrase,
	} {
		keyring.MockInitWithError(cause)
		secret := []byte("hunter2")
		_, err := Get("name")
		wantError(t, err, want, "get")
		_, err = GetOrCreate("name")
		wantError(t, err, want, "get")
		wantError(t, Delete("name"), want, "delete")
		err = Set("name", secret)
		wantError(t, err, want, "set")
		if want == ErrUnavailable && !errors.Is(err, cause) {
			t.Errorf("%v hides %v", err, cause)
		}
		if strings.Contains(err.Error(), string(secret)) {
			t.Errorf("%v tells the passphrase", err)
		}
	}
}
