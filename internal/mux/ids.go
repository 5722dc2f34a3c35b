package mux

import "slices"

// maxGaps bounds how many runs of ids an idSet remembers as not yet used.
const maxGaps = 4096

// An idSet holds the stream ids of one parity that have been used. Peers
// allocate ids in order, but goroutines that open streams race to announce
// them, so ids may arrive out of order: gaps are the runs below next still due.
type idSet struct {
	next uint64 // above every id in the set
	gaps []idRange
}

// An idRange is the ids from first to last, of one parity.
type idRange struct{ first, last uint32 }

// find returns the index of the gap that holds id.
func (s *idSet) find(id uint32) (int, bool) {
	return slices.BinarySearchFunc(s.gaps, id, func(g idRange, id uint32) int {
		switch {
		case g.last < id:
			return -1
		case g.first > id:
			return 1
		}
		return 0
	})
}

// has reports whether id, which must be of the set's parity, was added.
func (s *idSet) has(id uint32) bool {
	if uint64(id) >= s.next {
		return false
	}
	_, gap := s.find(id)
	return !gap
}

// add adds id, which must be of the set's parity, and reports whether it was
// missing. Of too many gaps the lowest is taken for used.
func (s *idSet) add(id uint32) bool {
	if uint64(id) >= s.next {
		if uint64(id) > s.next {
			if len(s.gaps) == maxGaps {
				s.gaps = slices.Delete(s.gaps, 0, 1)
			}
			s.gaps = append(s.gaps, idRange{uint32(s.next), id - 2})
		}
		s.next = uint64(id) + 2
		return true
	}
	i, gap := s.find(id)
	if !gap {
		return false
	}
	switch g := &s.gaps[i]; {
	case g.first == g.last:
		s.gaps = slices.Delete(s.gaps, i, i+1)
	case g.first == id:
		g.first += 2
	case g.last == id:
		g.last -= 2
	default:
		upper := idRange{id + 2, g.last}
		g.last = id - 2
		s.gaps = slices.Insert(s.gaps, i+1, upper)
		if len(s.gaps) > maxGaps {
			s.gaps = slices.Delete(s.gaps, 0, 1)
		}
	}
	return true
}
