package rekey

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
	"slices"
	"time"
)

// A proposal is what the dialler keeps until its propose is accepted. It has
// copies of what the commit will mix in: a path may die meanwhile, and the
// responder not know.
type proposal struct {
	body  []byte
	x     *ecdh.PrivateKey
	kem   *mlkem.DecapsulationKey768
	paths []path
}

// Propose begins a commit of all paths and returns the body of the message, of
// at most MaxProposeSize bytes. Due need not be true; the errors are ErrRole,
// ErrEarly while a commit is under way, and ErrPaths without paths.
func (s *State) Propose() ([]byte, error) {
	switch {
	case !s.dialler:
		return nil, &Error{"propose", ErrRole}
	case !s.idle():
		return nil, &Error{"propose", ErrEarly}
	case len(s.paths) == 0:
		return nil, &Error{"propose", fmt.Errorf("%w: there are none", ErrPaths)}
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, &Error{"propose", err}
	}
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, &Error{"propose", err}
	}
	s.propose(x, kem)
	return slices.Clone(s.proposal.body), nil
}

func (s *State) propose(x *ecdh.PrivateKey, kem *mlkem.DecapsulationKey768) {
	s.wished = false
	s.proposal = &proposal{x: x, kem: kem}
	m := propose{number: s.number + 1, x: x.PublicKey(), kem: kem.EncapsulationKey()}
	for _, p := range s.paths {
		m.paths = append(m.paths, p.id)
		s.proposal.paths = append(s.proposal.paths, *p)
	}
	s.proposal.body = m.append(nil)
}

// Wish notes that the responder asks the dialler to propose, in a message
// without a body. There is one for each commit at most.
func (s *State) Wish() { s.wished = true }

// HandleWish takes the peer's wish: Due is true as soon as a commit can begin.
// A wish that crosses with a proposal is granted by it: the responder has none
// between a proposal and its answer. The error is ErrRole.
func (s *State) HandleWish() error {
	if !s.dialler {
		return &Error{"wish", ErrRole}
	}
	s.wished = true
	return nil
}

// HandlePropose takes the body of the peer's proposal. It returns the body of
// the answer, of at most MaxAcceptSize bytes, and what the Opener of each path
// that moves must be given as its Next before the answer is sent. Sealers stay
// as they are until Opened.
//
// The errors are those of a peer that breaks the protocol; they change nothing.
func (s *State) HandlePropose(now time.Time, body []byte) (answer []byte, open []Key, err error) {
	if s.dialler {
		return nil, nil, &Error{"propose", ErrRole}
	}
	m, err := parsePropose(body)
	if err != nil {
		return nil, nil, &Error{"propose", err}
	}
	if !s.follows(m.number) {
		return nil, nil, &Error{"propose", fmt.Errorf("%w: %d after %d", ErrNumber, m.number, s.number)}
	}
	for _, id := range m.paths { // a path that still moves and is not named has died for the dialler
		if p := s.path(id); p != nil && p.moving {
			return nil, nil, &Error{"propose", fmt.Errorf("%w: path %d", ErrEarly, id)}
		}
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, &Error{"propose", err}
	}
	var mixed secrets
	defer mixed.erase()
	if err := mixed.agree(x, m.x); err != nil {
		return nil, nil, &Error{"propose", err}
	}
	a := accept{number: m.number, x: x.PublicKey()}
	kemShared, ciphertext := m.kem.Encapsulate()
	mixed.add(kemShared)
	a.ciphertext = ciphertext

	var moved []*path
	for _, id := range m.paths {
		if p := s.path(id); p != nil { // others died here, or are not known here yet
			moved = append(moved, p)
			a.paths = append(a.paths, id)
			mixed.addPath(p)
		}
	}
	answer = a.append(nil)
	s.commit(now, &mixed, body, answer)
	for _, p := range moved {
		p.move()
		open = append(open, Key{p.id, p.epoch, trafficOf(&s.root, p.id, fromDialler)})
		p.seal = trafficOf(&s.root, p.id, fromResponder)
	}
	return answer, open, nil
}

// HandleAccept takes the body of the peer's answer to the proposal. It returns
// what the Opener of each path that moves must be given as its Next, and then
// its Sealer as its Rekey; then each of these paths must be sent a ping, so that
// it has a frame in the new epoch. Paths that died meanwhile are left out.
//
// The errors are those of a peer that breaks the protocol; they change nothing.
func (s *State) HandleAccept(now time.Time, body []byte) (open, seal []Key, err error) {
	if !s.dialler {
		return nil, nil, &Error{"accept", ErrRole}
	}
	m, err := parseAccept(body)
	if err != nil {
		return nil, nil, &Error{"accept", err}
	}
	pr := s.proposal
	if pr == nil || !s.follows(m.number) {
		return nil, nil, &Error{"accept", fmt.Errorf("%w: %d after %d, proposed: %v", ErrNumber, m.number, s.number, pr != nil)}
	}
	var mixed secrets
	defer mixed.erase()
	if err := mixed.agree(pr.x, m.x); err != nil {
		return nil, nil, &Error{"accept", err}
	}
	kemShared, err := pr.kem.Decapsulate(m.ciphertext)
	if err != nil {
		return nil, nil, &Error{"accept", fmt.Errorf("%w: %w", ErrMalformed, err)}
	}
	mixed.add(kemShared)
	for _, id := range m.paths {
		at := slices.IndexFunc(pr.paths, func(p path) bool { return p.id == id })
		if at < 0 {
			return nil, nil, &Error{"accept", fmt.Errorf("%w: %d was not proposed", ErrPaths, id)}
		}
		mixed.addPath(&pr.paths[at])
	}
	s.commit(now, &mixed, pr.body, body)
	s.forgetProposal()
	for _, id := range m.paths {
		if p := s.path(id); p != nil {
			p.move()
			p.frames, p.bytes = 0, 0
			open = append(open, Key{p.id, p.epoch, trafficOf(&s.root, p.id, fromResponder)})
			seal = append(seal, Key{p.id, p.epoch, trafficOf(&s.root, p.id, fromDialler)})
		}
	}
	return open, seal, nil
}

// Opened takes note that a frame of the given epoch was opened on a path; only
// the first of an epoch matters, and the others do no harm. When ok, it is the
// responder's turn to Rekey the path's Sealer with seal.
func (s *State) Opened(id, epoch uint32) (seal Key, ok bool) {
	p := s.path(id)
	if p == nil || !p.moving || epoch != p.epoch {
		return Key{}, false
	}
	p.moving = false
	if s.dialler {
		return Key{}, false
	}
	seal = Key{p.id, p.epoch, p.seal}
	clear(p.seal[:])
	p.frames, p.bytes = 0, 0
	return seal, true
}

// follows reports whether number is that of the next commit. The numbers end
// before they wrap around.
func (s *State) follows(number uint32) bool { return number > s.number && number-s.number == 1 }

// commit replaces the root, and grants every wish that came before its answer.
func (s *State) commit(now time.Time, mixed *secrets, propose, accept []byte) {
	s.root = mixed.next(&s.root, propose, accept)
	s.number++
	s.since = now
	s.wished = false
}

// move begins the path's next epoch. Its exporter is in the root now. The epoch
// can't wrap around: it is at most the number of the commit.
func (p *path) move() {
	p.epoch++
	p.moving = true
	clear(p.exporter[:])
}

func (s *State) forgetProposal() {
	if s.proposal != nil {
		for i := range s.proposal.paths {
			clear(s.proposal.paths[i].exporter[:])
		}
		s.proposal = nil
	}
}
