package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	// checkEvery is how often a hosts file that is in use is looked at.
	checkEvery = time.Second
	// settleTime is the age from which a file's time tells one content from the next: the coarsest clock of a file
	// system that is in use ticks every 2 s.
	settleTime = 2 * time.Second
)

// Hosts are the peers of a hosts file, which is read at first use, and again when it was changed; it is looked at once a
// second at most, while it is in use. Only Path is required. Its methods are safe for concurrent use. Its fields are
// read-only after the first method call, and it must not be copied.
type Hosts struct {
	// Path is the file. Write it anew and rename it, as most editors do, lest it be read when it is half written.
	Path string
	// Now is the clock. nil means time.Now.
	Now func() time.Time
	// Logger gets what is wrong with the file, once, and that it was read. Nil: nothing.
	Logger *slog.Logger

	mu      sync.Mutex // guards all below
	table   *table     // nil until the first use
	err     error      // what is wrong with the file as it is now
	checked time.Time
	seen    fs.FileInfo // of what was read; nil when it is to be read again in any case
	settled bool        // seen was old enough to tell it from what comes after
	text    []byte      // what was read; nil when it is to be parsed again in any case
}

// Peers returns all peers, in the order in which they first appear in the file.
func (h *Hosts) Peers() []Peer {
	t, _ := h.current()
	peers := make([]Peer, len(t.peers))
	for i := range t.peers {
		peers[i] = t.peers[i].clone()
	}
	return peers
}

// Addrs returns the addresses of a peer, in the order of the file. Each ends in /p2p/ID.
func (h *Hosts) Addrs(id identity.ID) []multiaddr.Multiaddr {
	t, _ := h.current()
	if i, ok := t.index[id]; ok {
		return t.peers[i].clone().Addrs
	}
	return nil
}

// Petname returns the peer that the file calls name, if any.
func (h *Hosts) Petname(name string) (identity.ID, bool) {
	t, _ := h.current()
	if n, ok := t.names[name]; ok {
		return t.peers[n.peer].ID, true
	}
	return identity.ID{}, false
}

// Resolve is Petname as mesh.Node.Names wants it: it returns an error that wraps [registry.ErrNotFound] for a name that
// the file does not have.
func (h *Hosts) Resolve(ctx context.Context, name string) (identity.ID, error) {
	err := ctx.Err()
	if err == nil {
		if id, ok := h.Petname(name); ok {
			return id, nil
		}
		err = fmt.Errorf("%w: the hosts file calls nobody %.40q", registry.ErrNotFound, name)
	}
	return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
}

// Err returns what is wrong with the file as it is now, a [*HostsError], or nil. While it is not nil the other methods
// return what the file said before, or nothing when it was never right.
func (h *Hosts) Err() error {
	_, err := h.current()
	return err
}

// current returns what counts now, and looks at the file first if it is time.
func (h *Hosts) current() (*table, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	if since := now().Sub(h.checked); h.table == nil || since >= checkEvery || since < 0 {
		h.checked = now()
		h.check()
	}
	return h.table, h.err
}

// check reads the file if it was changed. h.mu is held.
func (h *Hosts) check() {
	log := h.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if h.table == nil {
		h.table = newTable()
	}
	t, err := h.read()
	switch {
	case err != nil:
		var he *HostsError
		if !errors.As(err, &he) {
			he = &HostsError{Err: err}
		}
		he.Path = h.Path
		if h.err == nil || h.err.Error() != he.Error() {
			log.Warn("the hosts file is not used as it is; what it said before still counts", "err", he)
		}
		h.err = he
	case t != nil:
		h.table, h.err = t, nil
		log.Info("hosts file read", "path", h.Path, "peers", len(t.peers))
	}
}

// read returns what the file says, or nil when it is as it was. h.mu is held.
func (h *Hosts) read() (*table, error) {
	seen, text := h.seen, h.text
	h.seen, h.text = nil, nil
	info, err := regular(os.Stat(h.Path)) // before Open, which would wait at a pipe
	if err != nil {
		return nil, err
	}
	if h.settled && same(seen, info) {
		h.seen, h.text = seen, text
		return nil, nil
	}
	f, err := os.Open(h.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = regular(f.Stat()); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxHostsSize+1))
	if err != nil {
		return nil, err
	}
	h.seen, h.text, h.settled = info, b, h.checked.Sub(info.ModTime()) > settleTime
	if text != nil && bytes.Equal(text, b) {
		return nil, nil
	}
	return parseHosts(b)
}

// same reports whether both are of one file with one content.
func same(a, b fs.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
