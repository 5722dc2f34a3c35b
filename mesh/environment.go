package mesh

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity/keystore"
	"github.com/splitmesh/splitmesh/transport"
)

// maxSecretFile is more than any passphrase or network key takes.
const maxSecretFile = 4 << 10

// nodeFromEnvironment makes the default node. Errors name the variable.
func nodeFromEnvironment() (*Node, error) {
	n := &Node{Logger: slog.Default()}
	var err error
	if n.Bootstrap, err = addrsFromEnvironment("SPLITMESH_BOOTSTRAP"); err != nil {
		return nil, err
	}
	if n.ListenAddrs, err = addrsFromEnvironment("SPLITMESH_LISTEN"); err != nil {
		return nil, err
	}
	path := os.Getenv("SPLITMESH_KEYSTORE")
	if path == "" && os.Getenv("SPLITMESH_PASSPHRASE_FILE") != "" {
		return nil, errors.New("SPLITMESH_PASSPHRASE_FILE is set and SPLITMESH_KEYSTORE, which it opens, is not")
	}
	if path != "" {
		passphrase, err := secretFromEnvironment("SPLITMESH_PASSPHRASE_FILE")
		if err != nil {
			return nil, err
		}
		if n.Identity, err = keystore.Load(path, passphrase); err != nil {
			return nil, fmt.Errorf("SPLITMESH_KEYSTORE: %w", err)
		}
	}
	if os.Getenv("SPLITMESH_NETWORK_KEY_FILE") != "" {
		text, err := secretFromEnvironment("SPLITMESH_NETWORK_KEY_FILE")
		if err != nil {
			return nil, err
		}
		n.NetworkKey = new([32]byte)
		if k, err := hex.Decode(n.NetworkKey[:], text[:min(len(text), 64)]); err != nil || k != 32 || len(text) != 64 {
			return nil, fmt.Errorf("SPLITMESH_NETWORK_KEY_FILE: %s must hold 64 hexadecimal digits", os.Getenv("SPLITMESH_NETWORK_KEY_FILE"))
		}
	}
	return n, nil
}

func addrsFromEnvironment(name string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for s := range strings.SplitSeq(os.Getenv(name), ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		a, err := transport.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func secretFromEnvironment(name string) ([]byte, error) {
	path := os.Getenv(name)
	if path == "" {
		return nil, fmt.Errorf("%s is not set; it names the file that holds the secret", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" && runtime.GOOS != "js" {
		return nil, fmt.Errorf("%s: others than its owner may read %s: run chmod 600 on it", name, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("%s: the file is larger than %d bytes", name, maxSecretFile)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}
