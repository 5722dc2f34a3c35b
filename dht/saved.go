package dht

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/fxamacker/cbor/v2"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/atomicfile"
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
	var b bytes.Buffer
	enc := encMode.NewEncoder(&b)
	var err error
	for _, c := range known[:min(maxSaved, len(known))] {
		err = errors.Join(err, enc.Encode(c.Record.Marshal()))
	}
	if err == nil {
		err = atomicfile.Write(d.cfg.Saved, b.Bytes())
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
	f, err := openRegular(d.cfg.Saved)
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

// openRegular opens a file to be read, unless it is something whose end never comes.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path) // before Open, which would wait at a pipe
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}
