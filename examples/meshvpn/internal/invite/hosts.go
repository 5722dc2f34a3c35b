package invite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/file"
	"github.com/splitmesh/splitmesh/transport"
)

// A TakenError says that a petname is another's.
type TakenError struct {
	Name string
	Peer identity.ID
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is what %s is called here", e.Name, e.Peer)
}

var hostsMu sync.Mutex // held while a hosts file is changed by this process

// Remember has the hosts file know a peer by a petname, unless that is empty, and addresses, of it and of relays, unless
// it does already. What the file said it goes on saying, comments included. A petname of another is a *TakenError.
func Remember(path string, id identity.ID, name string, addrs []multiaddr.Multiaddr) error {
	hostsMu.Lock()
	defer hostsMu.Unlock()
	text, err := remembering(path, id, name, addrs)
	if err != nil || text == nil {
		return err
	}
	return program.WriteFile(path, text)
}

// MayRemember returns the error that Remember would, but for one of writing.
func MayRemember(path string, id identity.ID, name string, addrs []multiaddr.Multiaddr) error {
	_, err := remembering(path, id, name, addrs)
	return err
}

// remembering is what the file is to hold, or nil when it does already.
func remembering(path string, id identity.ID, name string, addrs []multiaddr.Multiaddr) (text []byte, err error) {
	text, err = os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	peers, err := file.ParseHosts(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	before := len(text)
	named := name == ""
	for _, p := range peers {
		if name != "" && slices.Contains(p.Names, name) {
			if p.ID != id {
				return nil, &TakenError{name, p.ID}
			}
			named = true
		}
	}
	if !named {
		text = append(text, id.String()+" "+name+"\n"...)
	}
	for _, a := range addrs {
		_, of, ok, err := transport.SplitPeer(a)
		if err != nil || !ok {
			return nil, fmt.Errorf("%v does not end in /p2p/ID", a)
		}
		i := slices.IndexFunc(peers, func(p file.Peer) bool { return p.ID == of })
		if i < 0 || !slices.ContainsFunc(peers[i].Addrs, a.Equal) {
			text = append(text, a.String()+"\n"...)
		}
	}
	if len(text) == before {
		return nil, nil
	}
	if _, err := file.ParseHosts(text); err != nil { // never one that would not be used
		return nil, fmt.Errorf("%s, with what was to be added: %w", path, err)
	}
	return text, nil
}

// RememberAs is Remember with the name, or the first of name-2, name-3 and so on that is free. It returns that name.
func RememberAs(path string, id identity.ID, name string, addrs []multiaddr.Multiaddr) (string, error) {
	const tries = 100
	for i := 1; ; i++ {
		n := name
		if i > 1 {
			suffix := "-" + strconv.Itoa(i)
			n = name[:min(len(name), registry.MaxName-len(suffix))] + suffix
		}
		err := Remember(path, id, n, addrs)
		if _, taken := errors.AsType[*TakenError](err); !taken || i == tries {
			return n, err
		}
	}
}
