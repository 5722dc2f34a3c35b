// Package keystore keeps a peer's key in a file that a passphrase encrypts.
//
// The smallest program has a key from its first run on:
//
//	key, err := keystore.LoadOrCreate("/var/lib/app/key", passphrase, nil)
//	if err != nil {
//		return err
//	}
//	node := &mesh.Node{Identity: key}
//
// What the package promises:
//
//   - The file is there whole or not at all, after a crash too, and only its owner may read it.
//   - Nothing overwrites a key unless [Options.Overwrite] asks for it, and no failure to load one changes the file.
//   - A wrong passphrase, a damaged file, permissions that are too wide and a file of another kind are told apart.
//   - A hostile file costs at most 64 KiB to read and [MaxWorkFactor] to open.
//
// The file is one line followed by an age file (age-encryption.org/v1, with a single scrypt recipient):
//
//	splitmesh-keystore-v1 <SHA-256 of all that follows the line's end, 64 lower-case hexadecimal digits>
//
// age cannot tell a wrong passphrase from a damaged header, and the line can. "tail -n +2 FILE | age -d" shows what is
// inside: "splitmesh-key-v1 ", the seed in hexadecimal and a line end.
package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/splitmesh/splitmesh/identity"
)

// DefaultWorkFactor is the logarithm of scrypt's cost: 2^18 takes about a second and 256 MiB.
const DefaultWorkFactor = 18

// MaxWorkFactor is the most that Save writes and Load accepts: some 20 seconds and 4 GiB.
const MaxWorkFactor = 22

// MaxSize is the most that Load reads of a file. What Save writes has about 350 bytes.
const MaxSize = 64 << 10

// What can be wrong. They come wrapped in an [*Error], which names the file.
var (
	ErrWrongPassphrase  = errors.New("wrong passphrase: try again; without it the key cannot be recovered")
	ErrNoPassphrase     = errors.New("the passphrase is empty: give one")
	ErrCorrupt          = errors.New("the keystore is damaged: restore it from a backup; it was left as it is")
	ErrNotKeystore      = errors.New("not a keystore of splitmesh: check the path")
	ErrLoosePermissions = errors.New("others may read or write the keystore: run chmod 600 on it, and if somebody may have copied it make a new key")
	ErrExists           = errors.New("there is a file already: choose another path, or ask to overwrite it")
	ErrWorkFactor       = errors.New("the scrypt work factor is out of range")
)

// An Error says what was being done to which file, and what went wrong.
type Error struct {
	Op   string // "load" or "save"
	Path string
	Err  error // wraps a sentinel above, or an error of the file system
}

func (e *Error) Error() string { return fmt.Sprintf("keystore: %s %q: %v", e.Op, e.Path, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Options change what Save does. The zero value, and nil, mean the defaults.
type Options struct {
	// WorkFactor is the logarithm of scrypt's cost, from 1 to MaxWorkFactor. 0 means DefaultWorkFactor. Only tests have
	// a reason for less.
	WorkFactor int
	// Overwrite lets Save replace a regular file that is there already. The key in it is lost.
	Overwrite bool
}

// Save writes k to the file path, encrypted with the passphrase, and makes missing directories above it (mode 0700). The
// file has mode 0600.
//
// It returns [ErrExists] when there is something at path, be it a symbolic link, unless o asks to overwrite a regular
// file; [ErrNoPassphrase]; [ErrWorkFactor]; or what the file system says. All are wrapped in an [*Error], and whatever
// was at path is then still there.
func Save(path string, k *identity.Key, passphrase []byte, o *Options) error {
	if o == nil {
		o = &Options{}
	}
	b, err := encode(k, passphrase, o.WorkFactor)
	if err == nil {
		err = writeFile(path, b, o.Overwrite)
	}
	if err != nil {
		return &Error{"save", path, err}
	}
	return nil
}

// Load reads the key from the file path.
//
// It returns [ErrWrongPassphrase], [ErrNoPassphrase], [ErrCorrupt] for a file that was cut or changed,
// [ErrLoosePermissions] when the group or others have any permission (not checked on Windows, Plan 9 and js),
// [ErrNotKeystore], or what the file system says: [fs.ErrNotExist] when there is none. All are wrapped in an [*Error].
// It changes nothing.
func Load(path string, passphrase []byte) (*identity.Key, error) {
	k, err := load(path, passphrase)
	if err != nil {
		return nil, &Error{"load", path, err}
	}
	return k, nil
}

func load(path string, passphrase []byte) (*identity.Key, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return decode(b, passphrase, MaxWorkFactor)
}

// LoadOrCreate loads the key from the file path, or, when there is no file, makes a key and saves it there. Several
// processes that do so at once get one key. Its errors are those of [Load] and [Save].
func LoadOrCreate(path string, passphrase []byte, o *Options) (*identity.Key, error) {
	k, err := Load(path, passphrase)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k, err = identity.GenerateKey()
	if err != nil {
		return nil, &Error{"save", path, err}
	}
	once := Options{}
	if o != nil {
		once.WorkFactor = o.WorkFactor
	}
	switch err := Save(path, k, passphrase, &once); {
	case errors.Is(err, ErrExists): // another process was faster
		return Load(path, passphrase)
	case err != nil:
		return nil, err
	}
	return k, nil
}

// readFile reads the file if it is a regular one, its permissions are tight, and it is no larger than MaxSize.
func readFile(path string) ([]byte, error) {
	if err := regular(os.Stat(path)); err != nil { // before Open, which would wait at a pipe
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err := regular(info, err); err != nil {
		return nil, err
	}
	if loose(info.Mode(), runtime.GOOS) {
		return nil, fmt.Errorf("%w (its mode is %#o)", ErrLoosePermissions, info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, MaxSize)) // what is cut off by this fails at the checksum
}

func regular(info fs.FileInfo, err error) error {
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is no regular file", ErrNotKeystore)
	}
	return err
}

// loose reports whether anybody but the owner has a permission, on a system whose modes say so.
func loose(mode fs.FileMode, goos string) bool {
	switch goos {
	case "windows", "plan9", "js", "wasip1":
		return false
	}
	return mode.Perm()&0o077 != 0
}
