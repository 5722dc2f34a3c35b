package invite

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
)

// maxOpen bounds the invitations that are kept at once.
const maxOpen = 256

// A Store keeps what is needed to know the secrets of invitations again: a file for each, named by the secret's hash. It
// belongs to one process.
type Store struct {
	// Dir is made when it is missing.
	Dir string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	mu sync.Mutex // held while the files are looked at and changed
}

// An entry is an invitation as it is kept.
type entry struct {
	Ends time.Time    `json:"ends"`
	For  string       `json:"for,omitempty"` // the petname that the one who joins is to have
	By   *identity.ID `json:"by,omitempty"`  // who has used it
}

// Why a secret is not accepted. The one who asks is not told which.
var (
	errUnknown = errors.New("no such invitation is open")
	errUsed    = errors.New("the invitation was used by another")
	errEnded   = errors.New("the invitation has expired")
)

func hashOf(s Secret) string {
	sum := sha256.Sum256(append([]byte("meshvpn invitation secret"), s[:]...))
	return hex.EncodeToString(sum[:])
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Add opens an invitation, and forgets those that have ended.
func (s *Store) Add(secret Secret, ends time.Time, petname string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	left := 0
	for _, name := range names {
		if e, err := s.read(name); err != nil || !s.now().Before(e.Ends) {
			if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
				return err
			}
			continue
		}
		left++
	}
	if left >= maxOpen {
		return fmt.Errorf("%d invitations have not ended, and no more are allowed: revoke some, see invite list", left)
	}
	return s.write(hashOf(secret), &entry{Ends: ends, For: petname})
}

// Use has peer use the invitation with that secret, and returns the petname that it was made for. The same peer may do
// so again, lest it be lost when the answer was; nobody else may.
func (s *Store) Use(secret Secret, peer identity.ID) (petname string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.names()
	if err != nil {
		return "", err
	}
	hash, found := hashOf(secret), ""
	for _, name := range names { // all, and each to its end: time tells nothing
		if subtle.ConstantTimeCompare([]byte(name), []byte(hash)) == 1 {
			found = name
		}
	}
	if found == "" {
		return "", errUnknown
	}
	e, err := s.read(found)
	switch {
	case err != nil:
		return "", err
	case !s.now().Before(e.Ends):
		return "", errEnded
	case e.By != nil && *e.By != peer:
		return "", errUsed
	case e.By == nil:
		e.By = &peer
		if err := s.write(found, e); err != nil {
			return "", err
		}
	}
	return e.For, nil
}

// An Info is an invitation as the one who made it may see it.
type Info struct {
	ID   string       `json:"id"` // see IDOf
	For  string       `json:"for,omitempty"`
	Ends time.Time    `json:"ends"`
	By   *identity.ID `json:"by,omitempty"` // who has used it
}

// IDOf names an invitation, and tells nothing of its secret.
func IDOf(s Secret) string { return shorten(hashOf(s)) }

func shorten(hash string) string { return hash[:8] }

// List returns the invitations that have not ended, the first to end first.
func (s *Store) List() ([]Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(func(string, Info) {})
}

func (s *Store) list(each func(file string, i Info)) (out []Info, err error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		// One that can't be read opens nothing, and Add forgets it.
		if e, err := s.read(name); err == nil && s.now().Before(e.Ends) {
			i := Info{shorten(name), e.For, e.Ends, e.By}
			each(name, i)
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Or(a.Ends.Compare(b.Ends), strings.Compare(a.ID, b.ID)) })
	return out, nil
}

// Revoke closes the open invitations with that ID, or for that petname, and returns them.
func (s *Store) Revoke(which string) (out []Info, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []string
	used := false
	if _, err := s.list(func(file string, i Info) {
		switch {
		case which == "" || i.ID != which && i.For != which:
		case i.By != nil:
			used = true
		default:
			files, out = append(files, file), append(out, i)
		}
	}); err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := s.remove(f); err != nil {
			return nil, err
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case used:
		return nil, fmt.Errorf("the invitation %.80q was used, and lets nobody else in; its peer has its name in the file hosts, where you can take it out", which)
	}
	return nil, fmt.Errorf("no invitation %.80q is open: see invite list", which)
}

// remove empties the file first: should the machine lose its power, an invitation that was revoked does not come back.
func (s *Store) remove(name string) error {
	path := filepath.Join(s.Dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Remove(path)
}

// names are the files of invitations.
func (s *Store) names() (out []string, err error) {
	all, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range all {
		if b, err := hex.DecodeString(f.Name()); err == nil && len(b) == sha256.Size && f.Name() == strings.ToLower(f.Name()) {
			out = append(out, f.Name())
		}
	}
	return out, nil
}

func (s *Store) read(name string) (*entry, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		return nil, err
	}
	e := new(entry)
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("invitation %s: %w", filepath.Join(s.Dir, name), err)
	}
	return e, nil
}

func (s *Store) write(name string, e *entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return program.WriteFile(filepath.Join(s.Dir, name), b)
}
