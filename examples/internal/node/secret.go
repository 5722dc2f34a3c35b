package node

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/identity/keystore"
)

// keyName is the file in the state directory.
const keyName = "key"

// Key loads the key of the settings, or makes it and says so: for what needs the key before the node.
func Key(s *Settings, state *program.State, log *slog.Logger) (*identity.Key, error) {
	passphrase, err := SecretOf("node.passphrase-file", s.PassphraseFile)
	o := new(keystore.Options)
	if s.PassphraseFile == "" {
		passphrase, err = madePassphrase(state)
		o.WorkFactor = 12 // it has 256 bits of chance
	}
	if err != nil {
		return nil, err
	}
	_, missing := os.Lstat(state.Path(keyName))
	key, err := keystore.LoadOrCreate(state.Path(keyName), passphrase, o)
	if err != nil {
		return nil, err
	}
	if missing != nil {
		log.Info("a key was made: others know this node by a new ID", "id", key.ID().String(), "state", state.Dir)
	}
	return key, nil
}

// madePassphrase is the one beside the key, made if there is neither. It protects copies of the key alone, as in a backup
// that leaves it out.
func madePassphrase(state *program.State) ([]byte, error) {
	path, key := state.Path("passphrase"), state.Path(keyName)
	text, err := Secret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if _, err := os.Lstat(key); err == nil {
		return nil, &program.Error{
			Status: program.Settings, Err: fmt.Errorf("%s is there, and the passphrase that opens it is gone: %s", key, path),
			Hint: "Restore it from a backup, or name the file that has it with node.passphrase-file. To begin anew, with another ID, take the key away.",
		}
	}
	b := make([]byte, 32)
	rand.Read(b)
	text = hex.AppendEncode(nil, b)
	if err := program.WriteFile(path, text); err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	return text, nil
}

// maxSecret is more than any secret takes.
const maxSecret = 4 << 10

// Secret reads a file; an empty path is no secret.
func Secret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("secret: %w", err)
	case len(b) > maxSecret:
		return nil, fmt.Errorf("secret: %s has over %d bytes", path, maxSecret)
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) == 0 {
		return nil, fmt.Errorf("secret: %s is empty", path)
	}
	return b, nil
}

// SecretOf is Secret for a file that a setting names.
func SecretOf(setting, path string) ([]byte, error) {
	b, err := Secret(path)
	if err != nil {
		return nil, &program.Error{Status: program.Settings, Err: fmt.Errorf("%s: %w", setting, err)}
	}
	return b, nil
}

// NetworkKey is that of the network that the node is in: in the file that the settings name, or in the one in the state
// directory if there is one. Nil: the network is public.
func NetworkKey(s *Settings, state *program.State) (*[32]byte, error) {
	if s.NetworkKeyFile != "" {
		k, err := networkKey(s.NetworkKeyFile)
		if err != nil {
			err = &program.Error{Status: program.Settings, Err: fmt.Errorf("node.network-key-file: %w", err)}
		}
		return k, err
	}
	k, err := networkKey(state.Path(networkKeyName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return k, err
}

// networkKeyName is the file in the state directory.
const networkKeyName = "network-key"

// KeepNetworkKey has the state directory hold the network key. forget takes it out again.
func KeepNetworkKey(state *program.State, k *[32]byte) (forget func() error, err error) {
	path := state.Path(networkKeyName)
	return func() error { return os.Remove(path) }, program.WriteFile(path, hex.AppendEncode(nil, k[:]))
}

// networkKey reads a network key.
func networkKey(path string) (*[32]byte, error) {
	text, err := Secret(path)
	if err != nil {
		return nil, err
	}
	k := new([32]byte)
	if len(text) != 64 {
		return nil, fmt.Errorf("network key: %s must hold 64 hexadecimal digits", path)
	}
	if _, err := hex.Decode(k[:], text); err != nil {
		return nil, fmt.Errorf("network key: %s must hold 64 hexadecimal digits", path)
	}
	return k, nil
}
