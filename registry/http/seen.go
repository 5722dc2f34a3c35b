package httpregistry

import (
	"sync"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// seen is the newest record that a Client has seen of each peer, whoever showed it. Its zero value is ready for use.
type seen struct {
	mu sync.Mutex
	// asked holds those of peers that were published or looked up here. Revoked holds their revocations. Listed holds the
	// rest, which a server can make up without end, and so must not be able to push out the others.
	asked, revoked, listed cacheOfRecords
}

type cacheOfRecords = cache[identity.ID, *registry.Record]

// known returns the newest record of id, which nobody may change, or nil.
func (s *seen) known(id identity.ID) *registry.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest(id)
}

// newest is known while s.mu is held.
func (s *seen) newest(id identity.ID) (best *registry.Record) {
	for _, c := range []*cacheOfRecords{&s.revoked, &s.asked, &s.listed} {
		if r, ok := c.get(id); ok && r.Newer(best) {
			best = r
		}
	}
	return best
}

// keep remembers r, which nobody may change from now on, unless a newer one is known. It returns the newest.
func (s *seen) keep(r *registry.Record, asked bool) *registry.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if best := s.newest(r.ID); !r.Newer(best) {
		r = best
	}
	if _, ok := s.asked.get(r.ID); !asked && !ok {
		s.listed.put(r.ID, r)
		return r
	}
	s.asked.put(r.ID, r)
	if r.Revoked {
		s.revoked.put(r.ID, r)
	}
	return r
}
