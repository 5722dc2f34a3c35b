package handshake

import (
	"crypto/mlkem"
	"crypto/subtle"
	"fmt"

	"github.com/splitmesh/splitmesh/frame"
)

// A Responder is the end of one handshake that was called. It is for one
// goroutine.
type Responder struct {
	cfg      config
	key      [32]byte // of the frames
	noise    *noiseState
	kem      *mlkem.EncapsulationKey768 // until Answer
	e        [32]byte                   // the dialler's ephemeral key
	h1       [32]byte                   // the hash after message 1
	join     bool
	token    [32]byte
	suite    frame.Suite
	path     uint32
	answered bool
	refused  bool
	over     bool
}

// NewResponder opens an opening, which it does not keep. An error means that the
// opening is not for us, was altered, or was seen before: the caller behaves as
// if nobody of ours were here. seen is shared by all the handshakes of a node.
func NewResponder(cfg *Config, seen *ReplayCache, opening []byte) (*Responder, error) {
	c, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if seen == nil {
		return nil, &Error{"config", fmt.Errorf("%w: no replay cache", ErrConfig)}
	}
	r := &Responder{cfg: c, key: sealKey(c.Identity.ID(), &c.network)}
	if err := r.open(opening); err != nil {
		return nil, &Error{"opening", err}
	}
	// Only an opening that was made for us takes a place in the cache.
	if !seen.add(r.e) {
		return nil, &Error{"opening", ErrReplay}
	}
	return r, nil
}

func (r *Responder) open(opening []byte) error {
	size := openingSize
	if len(opening) == openingJoinSize {
		size = openingJoinSize
	}
	e, msg, err := openMessage(&r.key, opening, 1, size)
	if err != nil {
		return err
	}
	r.e = e
	if r.noise, err = newNoise(false, r.cfg.Identity.X25519(), r.cfg.Identity.ID(), r.cfg.Rand); err != nil {
		return err
	}
	payload, _, err := r.noise.read(append(e[:], msg...))
	if err != nil {
		return err
	}
	r.h1 = r.noise.hash()
	var p payload1
	if err := p.decode(payload); err != nil {
		return err
	}
	if r.kem, err = mlkem.NewEncapsulationKey768(p.kem); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.join, r.token = p.join, p.token
	if r.suite = pick(r.cfg.Suites & p.suites); r.suite == 0 {
		return fmt.Errorf("%w: offered %#b, accepted %#b", ErrSuite, p.suites, r.cfg.Suites)
	}
	return nil
}

// Join returns the token of a path that wants to join a session, and whether it
// does. The token is not proven before Finish: whoever saw it can show it.
func (r *Responder) Join() (token [32]byte, ok bool) { return r.token, r.join }

// Answer returns message 2. The answer to a joining path has the secret that
// belongs to its token, or refuses it; that to any other has neither.
func (r *Responder) Answer(a Answer) (msg2 []byte, err error) {
	if r.over || r.answered {
		r.end()
		return nil, &Error{"message 2", ErrState}
	}
	msg2, err = r.answer(a)
	if err != nil {
		r.end()
		return nil, &Error{"message 2", err}
	}
	return msg2, nil
}

func (r *Responder) answer(a Answer) ([]byte, error) {
	var join [32]byte
	p := payload2{statusOK, r.suite, a.PathID, r.cfg.Instance}
	switch {
	case a.Refuse && r.join:
		p.status, p.suite, p.path = statusToken, 0, 0
	case a.Refuse:
		return nil, fmt.Errorf("%w: it refuses a token where there is none", ErrConfig)
	case r.join != (a.JoinSecret != nil):
		return nil, fmt.Errorf("%w: joining is %v, but a join secret given is %v", ErrConfig, r.join, a.JoinSecret != nil)
	case r.join:
		if join = *a.JoinSecret; join == [32]byte{} {
			return nil, fmt.Errorf("%w: the join secret is all zeros, which means none", ErrConfig)
		}
	}
	shared, ciphertext := r.cfg.encapsulate(r.kem)
	r.kem = nil
	psk := pskOf(shared, &r.cfg.network, &join, &r.h1, ciphertext)
	if err := r.noise.setPSK(psk[:]); err != nil {
		return nil, err
	}
	msg, _, err := r.noise.write(p.encode())
	if err != nil {
		return nil, err
	}
	b := append([]byte{p.status}, ciphertext...)
	r.answered, r.refused, r.path = true, a.Refuse, p.path
	return sealMessage(&r.key, r.cfg.Rand, 2, r.noise.ephemeral(), append(b, msg[32:]...))
}

// Finish takes message 3, with which the dialler proves itself. After a refusal
// the error is ErrUnknownToken, whatever comes.
func (r *Responder) Finish(msg3 []byte) (*Result, error) {
	defer r.end() // whatever the outcome, there is no next step
	if r.over || !r.answered {
		return nil, &Error{"message 3", ErrState}
	}
	result, err := r.finish(msg3)
	if err != nil {
		return nil, &Error{"message 3", err}
	}
	return result, nil
}

func (r *Responder) finish(msg3 []byte) (*Result, error) {
	if r.refused {
		return nil, ErrUnknownToken
	}
	e, msg, err := openMessage(&r.key, msg3, 3, message3Size)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(e[:], r.e[:]) != 1 {
		return nil, fmt.Errorf("%w: it belongs to another opening", ErrMalformed)
	}
	payload, keys, err := r.noise.read(msg)
	if err != nil {
		return nil, err
	}
	var p payload3
	if err := p.decode(payload); err != nil {
		return nil, err
	}
	// The static key is what was proven, the ID is only what was said.
	named := p.id.X25519()
	if subtle.ConstantTimeCompare(named[:], r.noise.hs.PeerStatic()) != 1 {
		return nil, ErrIdentity
	}
	res := &Result{
		Peer: p.id, PeerInstance: p.instance, PathID: r.path, Suite: r.suite,
		Send: keys.fromResponder, Recv: keys.fromInitiator,
		Binding: r.noise.hash(), Joined: r.join,
	}
	res.Exporter = exporterOf(keys, &res.Binding)
	return res, nil
}

// end forgets all secrets.
func (r *Responder) end() { *r = Responder{over: true} }
