package overlay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/splitmesh/splitmesh/identity"
)

// Bounds of a Book.
const (
	MaxPinned = 16384
	MaxGuests = 1024
	maxLine   = 256
	maxFile   = MaxPinned * maxLine
)

// A Book says whose an address is. Peers that this node's owner named or asked for are pinned, in a file: the first to
// be pinned has its IPv4 address for good, and of several at once the one with the lower ID; who comes later with the
// same one is reached by IPv6 alone. Guests are peers that came by themselves: they have what nobody pinned, and the
// oldest make room for new ones.
type Book struct {
	path string
	self identity.ID
	v4   bool

	mu     sync.RWMutex // guards the rest
	addrs  map[netip.Addr]identity.ID
	pinned map[identity.ID]bool
	order  []identity.ID // of the pinned
	stale  bool          // whether the file lacks some of them
	guests []identity.ID // oldest first
}

// Open reads the book at path, which need not be there. The node's own addresses come before all others. Without v4
// nobody has an IPv4 address.
func Open(path string, self identity.ID, v4 bool) (*Book, error) {
	b := &Book{path: path, self: self, v4: v4, addrs: make(map[netip.Addr]identity.ID), pinned: make(map[identity.ID]bool)}
	b.add(self)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("address book: %w", err)
	}
	defer f.Close()
	ids, err := parse(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("address book %s: %w: mend it, or remove it to have addresses given anew", path, err)
	}
	for _, id := range ids {
		b.pin(id)
	}
	return b, nil
}

// parse reads the IDs of a book. The addresses beside them are for people to read: they follow from the order.
func parse(r io.Reader) (ids []identity.ID, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	seen := make(map[identity.ID]bool)
	for n := 1; s.Scan(); n++ {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		id, err := identity.ParseID(fields[0])
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case seen[id]:
			return nil, fmt.Errorf("line %d: %s has a line already", n, id.Short())
		case len(ids) == MaxPinned:
			return nil, fmt.Errorf("line %d: it has over %d peers", n, MaxPinned)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids, s.Err()
}

// derived are the addresses that a peer would like to have.
func (b *Book) derived(id identity.ID) []netip.Addr {
	if !b.v4 {
		return []netip.Addr{V6(id)}
	}
	return []netip.Addr{V6(id), V4(id)}
}

// add gives the peer those of its addresses that are free.
func (b *Book) add(id identity.ID) {
	for _, a := range b.derived(id) {
		if _, taken := b.addrs[a]; !taken {
			b.addrs[a] = id
		}
	}
}

// drop takes a peer's addresses away.
func (b *Book) drop(id identity.ID) {
	for _, a := range b.derived(id) {
		if b.addrs[a] == id {
			delete(b.addrs, a)
		}
	}
}

// pin pins a peer. It may have been a guest, and guests may have what is its own now.
func (b *Book) pin(id identity.ID) {
	if b.pinned[id] || id == b.self {
		return
	}
	for _, a := range b.derived(id) {
		if other, taken := b.addrs[a]; taken && other != b.self && !b.pinned[other] {
			delete(b.addrs, a)
		}
	}
	b.guests = slices.DeleteFunc(b.guests, func(g identity.ID) bool { return g == id })
	b.add(id)
	b.pinned[id] = true
	b.order = append(b.order, id)
}

// Pin remembers peers for good, in the book and then in its file: if that fails they are known for now, and the next Pin
// tries again. It is quick when they are all known.
func (b *Book) Pin(ids ...identity.ID) error {
	b.mu.RLock()
	fresh := slices.DeleteFunc(slices.Clone(ids), func(id identity.ID) bool { return b.pinned[id] || id == b.self })
	stale := b.stale
	b.mu.RUnlock()
	if len(fresh) == 0 && !stale {
		return nil
	}
	slices.SortFunc(fresh, identity.ID.Compare)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order)+len(fresh) > MaxPinned {
		return fmt.Errorf("address book %s: it has %d peers, and %d are the most", b.path, len(b.order), MaxPinned)
	}
	for _, id := range fresh {
		b.pin(id)
	}
	err := b.save()
	b.stale = err != nil
	return err
}

// Pinned is whether a peer is.
func (b *Book) Pinned(id identity.ID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.pinned[id]
}

// save writes the book anew and renames it.
func (b *Book) save() error {
	var text bytes.Buffer
	fmt.Fprintln(&text, "# Whose the addresses of the virtual network are. Of two peers with the same IPv4 address the upper one has it.")
	for _, id := range b.order {
		v4, v6 := b.lookup(id)
		if fmt.Fprint(&text, id, " ", v6); v4.IsValid() {
			fmt.Fprint(&text, " ", v4)
		}
		fmt.Fprintln(&text)
	}
	f, err := os.CreateTemp(filepath.Dir(b.path), ".addresses-*")
	if err != nil {
		return fmt.Errorf("address book: %w", err)
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), b.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("address book: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// Guest gives a peer addresses for the time being, unless it has some.
func (b *Book) Guest(id identity.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pinned[id] || id == b.self || slices.Contains(b.guests, id) {
		return
	}
	if len(b.guests) == MaxGuests {
		b.drop(b.guests[0])
		b.guests = slices.Delete(b.guests, 0, 1)
	}
	b.guests = append(b.guests, id)
	b.add(id)
}

// Peer says whose an address is.
func (b *Book) Peer(a netip.Addr) (identity.ID, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	id, ok := b.addrs[a]
	return id, ok
}

// Addrs are a peer's addresses; one that is another's is invalid.
func (b *Book) Addrs(id identity.ID) (v4, v6 netip.Addr) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.lookup(id)
}

func (b *Book) lookup(id identity.ID) (v4, v6 netip.Addr) {
	if a := V4(id); b.addrs[a] == id {
		v4 = a
	}
	if a := V6(id); b.addrs[a] == id {
		v6 = a
	}
	return v4, v6
}
