// Package keychain keeps passphrases in the system's keychain: Secret Service on Linux and the BSDs, Keychain on macOS,
// Credential Manager on Windows.
//
// The smallest program opens its keystore with no question:
//
//	passphrase, err := keychain.GetOrCreate(path)
//	if err != nil {
//		return err // or ask the person for a passphrase
//	}
//	key, err := keystore.LoadOrCreate(path, passphrase, nil)
//
// What the package promises: no passphrase stands in an error, and where there is no keychain, as on most servers, every
// function says so with [ErrUnavailable]. The keychain may show a dialog, and a function waits until it is answered.
package keychain

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zalando/go-keyring"
)

// Service is the name under which the keychain shows what is kept here.
const Service = "splitmesh"

// MaxPassphrase is the most bytes that a passphrase may have: every system's keychain holds that much.
const MaxPassphrase = 1024

// What can be wrong. They come wrapped in an [*Error].
var (
	ErrNotFound    = errors.New("the system's keychain holds no passphrase of that name: store one")
	ErrUnavailable = errors.New("the system's keychain does not answer: start or unlock one, such as gnome-keyring or KWallet on Linux, or give the passphrase another way")
	ErrPassphrase  = errors.New("a passphrase for the keychain must be UTF-8 text of 1 to 1024 bytes without a zero byte")
)

// An Error says what was being done to which passphrase, and what went wrong.
type Error struct {
	Op   string // "get", "set" or "delete"
	Name string
	Err  error // wraps a sentinel above; never holds a passphrase
}

func (e *Error) Error() string { return fmt.Sprintf("keychain: %s %q: %v", e.Op, e.Name, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// wrap makes an Error of what the keychain says, or nil of nil.
func wrap(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrNotFound):
		err = ErrNotFound
	case errors.Is(err, keyring.ErrSetDataTooBig):
		err = ErrPassphrase
	default:
		err = fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return &Error{op, name, err}
}

// Get returns the passphrase of that name, which is best the absolute path of the keystore that it opens. It returns
// [ErrNotFound] when there is none.
func Get(name string) ([]byte, error) {
	passphrase, err := keyring.Get(Service, name)
	if err != nil {
		return nil, wrap("get", name, err)
	}
	return []byte(passphrase), nil
}

// Set stores the passphrase under that name, in the place of one that was there. It returns [ErrPassphrase] for one that
// not every keychain would give back as it was.
func Set(name string, passphrase []byte) error {
	s := string(passphrase)
	if s == "" || len(s) > MaxPassphrase || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return &Error{"set", name, ErrPassphrase}
	}
	return wrap("set", name, keyring.Set(Service, name, s))
}

// Delete removes the passphrase of that name. It returns [ErrNotFound] when there is none.
func Delete(name string) error { return wrap("delete", name, keyring.Delete(Service, name)) }

// GetOrCreate returns the passphrase of that name, or, when there is none, makes one of at least 128 random bits, stores
// it, and returns what the keychain then holds.
func GetOrCreate(name string) ([]byte, error) {
	passphrase, err := Get(name)
	if !errors.Is(err, ErrNotFound) {
		return passphrase, err
	}
	if err := Set(name, []byte(rand.Text())); err != nil {
		return nil, err
	}
	return Get(name)
}
