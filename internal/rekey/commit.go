package rekey

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
	"slices"
	"time"
)

// An Ephemeral is what one proposal is made with. To make it is the long part of
// Propose, and needs no State.
type Ephemeral struct {
	x   *ecdh.PrivateKey
	kem *mlkem.DecapsulationKey768
}

// NewEphemeral returns fresh keys for one proposal.
func NewEphemeral() (*Ephemeral, error) {
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, &Error{"propose", err}
	}
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, &Error{"propose", err}
	}
	return &Ephemeral{x, kem}, nil
}

// A Proposal is what the dialler keeps until its propose is accepted. It has
// copies of what the commit will mix in: a path may die meanwhile, and the
// responder not know.
type Proposal struct {
	*Ephemeral
	body  []byte
	paths []path // the State's
}

// Propose begins a commit of all paths with e, which must not be used again, and
// returns the body of the message, of at most MaxProposeSize bytes. Due need not be
// true; the errors are ErrRole, ErrEarly while a commit is under way, and ErrPaths
// without paths.
func (s *State) Propose(e *Ephemeral) ([]byte, error) {
	switch {
	case !s.dialler:
		return nil, &Error{"propose", ErrRole}
	case !s.idle():
		return nil, &Error{"propose", ErrEarly}
	case len(s.paths) == 0:
		return nil, &Error{"propose", fmt.Errorf("%w: there are none", ErrPaths)}
	}
	s.propose(e)
	return slices.Clone(s.proposal.body), nil
}

func (s *State) propose(e *Ephemeral) {
	s.wished = false
	s.proposal = &Proposal{Ephemeral: e}
	m := propose{number: s.number + 1, x: e.x.PublicKey(), kem: e.kem.EncapsulationKey()}
	for _, p := range s.paths {
		m.paths = append(m.paths, p.id)
		s.proposal.paths = append(s.proposal.paths, *p)
	}
	s.proposal.body = m.append(nil)
}

// Proposed returns the proposal that waits for its answer, nil when none does.
func (s *State) Proposed() *Proposal { return s.proposal }

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

// A Response is the long part of the answer to a proposal, which needs no State.
type Response struct {
	m      propose
	body   []byte // of the proposal
	answer accept // but for its paths
	mixed  secrets
}

// Respond reads the body of the peer's proposal and agrees with it on secrets. The
// errors are those of a peer that breaks the protocol.
func Respond(body []byte) (*Response, error) {
	m, err := parsePropose(body)
	if err != nil {
		return nil, &Error{"propose", err}
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, &Error{"propose", err}
	}
	r := &Response{m: m, body: body, answer: accept{number: m.number, x: x.PublicKey()}}
	if err := r.mixed.agree(x, m.x); err != nil {
		return nil, &Error{"propose", err}
	}
	kemShared, ciphertext := m.kem.Encapsulate()
	r.mixed.add(kemShared)
	r.answer.ciphertext = ciphertext
	return r, nil
}

// HandlePropose takes the peer's proposal. It returns the body of the answer, of at
// most MaxAcceptSize bytes, and what the Opener of each path that moves must be given
// as its Next before the answer is sent. Sealers stay as they are until Opened.
//
// The errors are those of a peer that breaks the protocol; they change nothing. r is
// of no use afterwards.
func (s *State) HandlePropose(now time.Time, r *Response) (answer []byte, open []Key, err error) {
	defer r.mixed.erase()
	m := &r.m
	if s.dialler {
		return nil, nil, &Error{"propose", ErrRole}
	}
	if !s.follows(m.number) {
		return nil, nil, &Error{"propose", fmt.Errorf("%w: %d after %d", ErrNumber, m.number, s.number)}
	}
	for _, id := range m.paths { // a path that still moves and is not named has died for the dialler
		if p := s.path(id); p != nil && p.moving {
			return nil, nil, &Error{"propose", fmt.Errorf("%w: path %d", ErrEarly, id)}
		}
	}
	a := r.answer

	var moved []*path
	for _, id := range m.paths {
		if p := s.path(id); p != nil { // others died here, or are not known here yet
			moved = append(moved, p)
			a.paths = append(a.paths, id)
			r.mixed.addPath(p)
		}
	}
	answer = a.append(nil)
	s.commit(now, &r.mixed, r.body, answer)
	for _, p := range moved {
		p.move()
		open = append(open, Key{p.id, p.epoch, trafficOf(&s.root, p.id, fromDialler)})
		p.seal = trafficOf(&s.root, p.id, fromResponder)
	}
	return answer, open, nil
}

// A Conclusion is the long part of taking the answer to a proposal, which needs no
// State.
type Conclusion struct {
	of    *Proposal
	m     accept
	body  []byte // of the answer
	mixed secrets
}

// Conclude reads the body of the peer's answer and agrees with it on secrets. A nil
// Proposal only reads. The errors are those of a peer that breaks the protocol.
func (p *Proposal) Conclude(body []byte) (*Conclusion, error) {
	m, err := parseAccept(body)
	if err != nil {
		return nil, &Error{"accept", err}
	}
	c := &Conclusion{of: p, m: m, body: body}
	if p == nil {
		return c, nil
	}
	if err := c.mixed.agree(p.x, m.x); err != nil {
		return nil, &Error{"accept", err}
	}
	kemShared, err := p.kem.Decapsulate(m.ciphertext)
	if err != nil {
		return nil, &Error{"accept", fmt.Errorf("%w: %w", ErrMalformed, err)}
	}
	c.mixed.add(kemShared)
	return c, nil
}

// HandleAccept takes the peer's answer to the proposal. It returns what the Opener of
// each path that moves must be given as its Next, and then its Sealer as its Rekey;
// then each of these paths must be sent a ping, so that it has a frame in the new
// epoch. Paths that died meanwhile are left out.
//
// The errors are those of a peer that breaks the protocol; they change nothing. c is
// of no use afterwards.
func (s *State) HandleAccept(now time.Time, c *Conclusion) (open, seal []Key, err error) {
	defer c.mixed.erase()
	if !s.dialler {
		return nil, nil, &Error{"accept", ErrRole}
	}
	pr, m := s.proposal, &c.m
	if pr == nil || pr != c.of || !s.follows(m.number) {
		return nil, nil, &Error{"accept", fmt.Errorf("%w: %d after %d, proposed: %v", ErrNumber, m.number, s.number, pr != nil)}
	}
	for _, id := range m.paths {
		at := slices.IndexFunc(pr.paths, func(p path) bool { return p.id == id })
		if at < 0 {
			return nil, nil, &Error{"accept", fmt.Errorf("%w: %d was not proposed", ErrPaths, id)}
		}
		c.mixed.addPath(&pr.paths[at])
	}
	s.commit(now, &c.mixed, pr.body, c.body)
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
