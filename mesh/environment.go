package mesh

import (
	"bytes"
	"context"
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
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/transport"
)

// maxSecretFile is more than any passphrase or network key takes.
const maxSecretFile = 4 << 10

// sources resolves what SPLITMESH_BOOTSTRAP names. Only tests change it.
var sources bootstrap.Resolver

// nodeFromEnvironment makes the default node. Errors name the variable.
func nodeFromEnvironment(ctx context.Context) (*Node, error) {
	n := &Node{Logger: slog.Default()}
	var err error
	if n.Bootstrap, err = bootstrapFromEnvironment(ctx, "SPLITMESH_BOOTSTRAP", n.Logger); err != nil {
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

// bootstrapFromEnvironment returns the addresses in the variable, and then those that the names in it stand for, which may
// fail as long as there is any other.
func bootstrapFromEnvironment(ctx context.Context, name string, log *slog.Logger) (out []multiaddr.Multiaddr, err error) {
	var named []string
	for _, s := range listFromEnvironment(name) {
		var a multiaddr.Multiaddr
		if strings.HasPrefix(s, "/") {
			if a, err = transport.Parse(s); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			s = a.String() // which has the spelling of IDs that multiaddrs know
		}
		if len(a) > 0 && a[0].Code() != multiaddr.P_DNSADDR {
			out = append(out, a)
			continue
		}
		if err := bootstrap.Check(s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		named = append(named, s)
	}
	if len(named) == 0 {
		return out, nil
	}
	found, err := sources.Resolve(ctx, named...)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", name, ctx.Err())
	case len(out) == 0:
		return nil, fmt.Errorf("%s: %w: check the spelling, the network and that the node is up, or add the address of another", name, err)
	default:
		log.Warn("some of "+name+" is not to be had; the rest is used", "err", err)
	}
	return append(out, found...), nil
}

// listFromEnvironment returns what commas separate in the variable.
func listFromEnvironment(name string) (out []string) {
	for s := range strings.SplitSeq(os.Getenv(name), ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func addrsFromEnvironment(name string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, s := range listFromEnvironment(name) {
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
