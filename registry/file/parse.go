package file

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// What a hosts file may hold. Beyond that it has an error.
const (
	MaxHostsSize = 1 << 20          // bytes of the file
	MaxHostsLine = 64 << 10         // bytes of a line
	maxAddr      = registry.MaxSize // bytes of an address: a longer one would fit in no record either
)

// ErrTooLarge says that a hosts file, or a line of it, is longer than it may be. It comes wrapped in a [*HostsError].
var ErrTooLarge = errors.New("too large")

// A HostsError says what is wrong with a hosts file, and where.
type HostsError struct {
	Path         string // empty when [ParseHosts] returns it
	Line, Column int    // from 1, the column in bytes; 0 when it is about the whole file
	Err          error
}

func (e *HostsError) Error() string {
	s := "file: hosts"
	if e.Path != "" {
		s += fmt.Sprintf(" %q", e.Path)
	}
	if e.Line > 0 {
		s += fmt.Sprintf(", line %d, column %d", e.Line, e.Column)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *HostsError) Unwrap() error { return e.Err }

// A Peer is all that a hosts file says of one peer.
type Peer struct {
	ID    identity.ID
	Addrs []multiaddr.Multiaddr // in the order of the file, each once; each ends in /p2p/ID
	Names []string              // petnames, likewise
}

// clone returns a copy that shares nothing that can be changed.
func (p *Peer) clone() Peer {
	c := Peer{p.ID, slices.Clone(p.Addrs), slices.Clone(p.Names)}
	for i, a := range c.Addrs {
		c.Addrs[i] = slices.Clone(a)
	}
	return c
}

// lineWidth is the length after which String begins another line for further names.
const lineWidth = 1 << 10

// String returns lines of a hosts file that say the same.
func (p *Peer) String() string {
	var b strings.Builder
	for addrs, names := p.Addrs, p.Names; len(addrs) > 0 || len(names) > 0; {
		line := p.ID.String()
		if len(addrs) > 0 {
			line, addrs = addrs[0].String(), addrs[1:]
		}
		for len(names) > 0 && len(line) < lineWidth {
			line, names = line+" "+names[0], names[1:]
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// ParseHosts reads the contents of a hosts file, and returns its peers in the order in which they first appear. Its errors
// are [*HostsError].
func ParseHosts(text []byte) ([]Peer, error) {
	t, err := parseHosts(text)
	if err != nil {
		return nil, err
	}
	return t.peers, nil
}

// A table is what a hosts file says. It is not changed once it was parsed.
type table struct {
	peers []Peer
	index map[identity.ID]int // into peers
	names map[string]petname
	addrs map[string]bool
}

// A petname is of a peer of that index, and was first given in that line.
type petname struct{ peer, line int }

func newTable() *table {
	return &table{index: map[identity.ID]int{}, names: map[string]petname{}, addrs: map[string]bool{}}
}

var byteOrderMark = []byte("\ufeff") // which some editors put first

func parseHosts(text []byte) (*table, error) {
	if len(text) > MaxHostsSize {
		return nil, &HostsError{Err: fmt.Errorf("%w: over %d bytes", ErrTooLarge, MaxHostsSize)}
	}
	t, number := newTable(), 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, byteOrderMark)) {
		number++
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if column, err := t.add(number, line); err != nil {
			return nil, &HostsError{Line: number, Column: column, Err: err}
		}
	}
	return t, nil
}

// add adds what a line says, or returns where it is wrong, and how.
func (t *table) add(number int, line []byte) (column int, err error) {
	if len(line) > MaxHostsLine {
		return MaxHostsLine + 1, fmt.Errorf("%w: over %d bytes in one line", ErrTooLarge, MaxHostsLine)
	}
	line, _, _ = bytes.Cut(line, []byte("#"))
	fields, column := split(line)
	switch {
	case column > 0:
		r := []rune(string(line[column-1:]))[0]
		return column, fmt.Errorf("%U is not a printable ASCII character: type the word anew, and save the file as UTF-8", r)
	case len(fields) == 0:
		return 0, nil
	}
	first, names := fields[0], fields[1:]
	id, addr, err := parsePeer(first.text)
	switch {
	case err != nil:
		return first.column, err
	case len(addr) == 0 && len(names) == 0:
		return first.column, errors.New("this line says nothing of its peer: put an address in place of the ID, or a name after it")
	}
	peer, ok := t.index[id]
	if !ok {
		peer = len(t.peers)
		t.index[id] = peer
		t.peers = append(t.peers, Peer{ID: id})
	}
	p := &t.peers[peer]
	if s := addr.String(); s != "" && !t.addrs[s] {
		t.addrs[s] = true
		p.Addrs = append(p.Addrs, addr)
	}
	for _, name := range names {
		given, ok := t.names[name.text]
		switch {
		case strings.HasPrefix(name.text, "/"):
			return name.column, errors.New("each address goes at the beginning of a line of its own")
		case !registry.ValidName(name.text):
			return name.column, fmt.Errorf("%.40q is no petname: those have 1 to %d characters a-z, 0-9 and hyphen, and no hyphen at an end", name.text, registry.MaxName)
		case ok && given.peer != peer:
			return name.column, fmt.Errorf("%w: %q is in line %d", registry.ErrNameTaken, name.text, given.line)
		case !ok:
			t.names[name.text] = petname{peer, number}
			p.Names = append(p.Names, name.text)
		}
	}
	return 0, nil
}

// A field is a word of a line, and the column where it begins.
type field struct {
	column int
	text   string
}

// split returns the words of a line, or the column, from 1, of what can be in none.
func split(line []byte) (fields []field, bad int) {
	start := -1
	for i := 0; i <= len(line); i++ {
		switch blank := i == len(line) || line[i] == ' ' || line[i] == '\t'; {
		case !blank && (line[i] < ' ' || line[i] > '~'):
			return nil, i + 1
		case !blank && start < 0:
			start = i
		case blank && start >= 0:
			fields = append(fields, field{start + 1, string(line[start:i])})
			start = -1
		}
	}
	return fields, 0
}

const p2p = "/p2p/"

// parsePeer reads the first word of a line: an ID, or an address that ends in one. In an address too the ID may have
// either spelling, of which multiaddrs know only one.
func parsePeer(s string) (id identity.ID, addr multiaddr.Multiaddr, err error) {
	at := strings.LastIndex(s, p2p)
	switch {
	case !strings.HasPrefix(s, "/"):
		id, err = identity.ParseID(s)
		return id, nil, err
	case at < 0:
		return id, nil, fmt.Errorf("the address %.80q must end in /p2p/ and the peer's ID", s)
	case len(s) > maxAddr:
		return id, nil, fmt.Errorf("an address of %d bytes, and at most %d are allowed", len(s), maxAddr)
	}
	id, err = identity.ParseID(s[at+len(p2p):])
	if err != nil || at == 0 {
		return id, nil, err
	}
	addr, err = multiaddr.NewMultiaddr(s[:at] + p2p + id.PeerID())
	if err != nil {
		return id, nil, errors.New(clip(err.Error()))
	}
	switch last := &addr[len(addr)-1]; {
	case last.Code() != multiaddr.P_P2P: // a path, which takes all that follows
		return id, nil, fmt.Errorf("in %.80q nothing can follow %s", s, last.Protocol().Name)
	case len(addr) > registry.MaxComponents:
		return id, nil, fmt.Errorf("an address of %d components, and at most %d are allowed", len(addr), registry.MaxComponents)
	case len(addr.String()) > maxAddr:
		return id, nil, fmt.Errorf("an address of %d bytes, and at most %d are allowed", len(addr.String()), maxAddr)
	}
	return id, addr, nil
}

// clip shortens what quotes a hosts file, for the log.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
