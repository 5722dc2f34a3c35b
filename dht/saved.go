package dht

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// The file of known nodes is a CBOR sequence (RFC 8742) of byte strings, each a signed record. Who edits it can leave
// nodes out, and bring in none that there are not; a node in it counts for nothing until it has answered.

// maxSaved bounds the nodes, and so the file, that are read back.
const maxSaved = 1024

// save writes the known nodes down, if there is a file to write to.
func (d *DHT) save() error {
	if d.cfg.Saved == "" {
		return nil
	}
	d.mu.Lock()
	var known []*kad.Contact
	if d.table != nil {
		known = d.table.Contacts()
	}
	d.mu.Unlock()
	if len(known) == 0 {
		return nil // what is there may be better
	}
	f, err := os.CreateTemp(filepath.Dir(d.cfg.Saved), ".dht-*")
	if err != nil {
		return fmt.Errorf("dht: save the known nodes: %w", err)
	}
	defer os.Remove(f.Name()) // when it was not renamed
	enc := encMode.NewEncoder(f)
	for _, c := range known[:min(maxSaved, len(known))] {
		err = errors.Join(err, enc.Encode(c.Record.Marshal()))
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), d.cfg.Saved)
	}
	if err != nil {
		return fmt.Errorf("dht: save the known nodes: %w", err)
	}
	return nil
}

// load reads the nodes that were known, as far as their records are valid.
func (d *DHT) load() (known []*kad.Contact) {
	if d.cfg.Saved == "" {
		return nil
	}
	st, err := os.Stat(d.cfg.Saved)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is no regular file") // to open a pipe waits for its other end
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(d.cfg.Saved)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("the known nodes were not read", "err", err)
		}
		return nil
	}
	defer f.Close()
	dec := cbor.NewDecoder(io.LimitReader(f, maxSaved*(registry.MaxSize+8)))
	names := make(map[identity.ID]struct{})
	for range maxSaved {
		var b []byte
		if err := dec.Decode(&b); err != nil {
			if !errors.Is(err, io.EOF) {
				d.log.Warn("the file of known nodes is damaged: what comes before is used", "file", d.cfg.Saved, "err", err)
			}
			break
		}
		r, newest, err := d.parse(b)
		if err != nil || !newest {
			continue
		}
		c := d.contact(r)
		if _, twice := names[r.ID]; c != nil && !twice {
			names[r.ID] = struct{}{}
			known = append(known, c)
		}
	}
	return known
}
