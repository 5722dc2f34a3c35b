package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/splitmesh/splitmesh/identity"
)

// access says who may reserve and dial.
type access struct {
	only          bool // those allowed and nobody else
	allowed, none map[identity.ID]bool
}

// newAccess reads the lists.
func newAccess(s *relaySettings) (*access, error) {
	a := &access{only: len(s.Allow) > 0 || s.AllowFile != ""}
	var err error
	if a.allowed, err = listed(s.Allow, s.AllowFile); err != nil {
		return nil, fmt.Errorf("relay.allow-file: %w", err)
	}
	if a.none, err = listed(s.Deny, s.DenyFile); err != nil {
		return nil, fmt.Errorf("relay.deny-file: %w", err)
	}
	return a, nil
}

// allows is mesh.RelayConfig.Allow.
func (a *access) allows(id identity.ID) bool { return !a.none[id] && (!a.only || a.allowed[id]) }

// ask is allows, or nil if everybody may.
func (a *access) ask() func(identity.ID) bool {
	if !a.only && len(a.none) == 0 {
		return nil
	}
	return a.allows
}

func listed(list []identity.ID, path string) (map[identity.ID]bool, error) {
	if path != "" {
		more, err := readIDs(path)
		if err != nil {
			return nil, err
		}
		list = slices.Concat(list, more)
	}
	set := make(map[identity.ID]bool, len(list))
	for _, id := range list {
		set[id] = true
	}
	return set, nil
}

// maxIDs bounds a file of IDs in bytes: some 60,000 of them.
const maxIDs = 4 << 20

func readIDs(path string) ([]identity.ID, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIDs+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxIDs {
		return nil, fmt.Errorf("%s has over %d bytes: is it the right file?", path, maxIDs)
	}
	ids, err := parseIDs(b)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return ids, nil
}

// parseIDs reads an ID from each line. From a # on a line is a comment. A line with anything else is an error: a list that
// was mistyped must not let somebody in, or keep the wrong one out.
func parseIDs(b []byte) (ids []identity.ID, err error) {
	number := 0
	for line := range bytes.Lines(b) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		id, err := identity.ParseID(string(line))
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
