package handshake

import (
	"crypto/mlkem"
	"fmt"
	"io"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

// A Dialler is the end of one handshake that knows whom it calls. It is for one
// goroutine and for one connection: a second opening with the same bytes is refused
// as a replay.
type Dialler struct {
	cfg       config
	responder identity.ID
	join      *Join
	key       [32]byte // of the frames
	noise     *noiseState
	kem       *mlkem.DecapsulationKey768
	h1        [32]byte // the hash after message 1
	opening   []byte
	over      bool
}

// NewDialler makes the opening for responder. With a join the path becomes part
// of the session that issued it, else it begins a session of its own.
func NewDialler(cfg *Config, responder identity.ID, join *Join) (*Dialler, error) {
	c, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	d := &Dialler{cfg: c, responder: responder, key: sealKey(responder, &c.network)}
	if join != nil {
		if join.Secret == [32]byte{} {
			return nil, &Error{"config", fmt.Errorf("%w: the join secret is all zeros, which means none", ErrConfig)}
		}
		j := *join
		d.join = &j
	}
	if err := d.open(); err != nil {
		return nil, &Error{"opening", err}
	}
	return d, nil
}

func (d *Dialler) open() error {
	var seed [mlkem.SeedSize]byte
	if _, err := io.ReadFull(d.cfg.Rand, seed[:]); err != nil {
		return err
	}
	var err error
	if d.kem, err = mlkem.NewDecapsulationKey768(seed[:]); err != nil {
		return err
	}
	if d.noise, err = newNoise(true, d.cfg.Identity.X25519(), d.responder, d.cfg.Rand); err != nil {
		return err
	}
	p := payload1{kem: d.kem.EncapsulationKey().Bytes(), suites: d.cfg.Suites}
	if d.join != nil {
		p.join, p.token = true, d.join.Token
	}
	msg, _, err := d.noise.write(p.encode())
	if err != nil {
		return err
	}
	d.h1 = d.noise.hash()
	d.opening, err = sealMessage(&d.key, d.cfg.Rand, 1, d.noise.ephemeral(), msg[32:])
	return err
}

// Opening returns the first message, which the transport carries. It is nil once
// the handshake is over. The caller must not change it.
func (d *Dialler) Opening() []byte { return d.opening }

// Finish takes message 2 and returns message 3 and the result. The responder has
// proven itself by then; it knows us when it has read message 3, which must be
// the first that is sent, with data right behind it if there is any.
//
// When the responder does not know the token that was to join, the error is
// ErrUnknownToken. That is certain, and final: it was not said by anybody else.
func (d *Dialler) Finish(msg2 []byte) (msg3 []byte, result *Result, err error) {
	if d.over {
		return nil, nil, &Error{"message 2", ErrState}
	}
	defer d.end() // whatever the outcome, there is no next step
	p, err := d.read(msg2)
	if err != nil {
		return nil, nil, &Error{"message 2", err}
	}
	msg3, result, err = d.name(p)
	if err != nil {
		return nil, nil, &Error{"message 3", err}
	}
	return msg3, result, nil
}

// read opens message 2 and checks what it says.
func (d *Dialler) read(msg2 []byte) (*payload2, error) {
	e, b, err := openMessage(&d.key, msg2, 2, message2Size)
	if err != nil {
		return nil, err
	}
	status, ciphertext, msg := b[0], b[1:1+mlkem.CiphertextSize768], b[1+mlkem.CiphertextSize768:]
	if status > statusToken || status == statusToken && d.join == nil {
		return nil, fmt.Errorf("%w: status %d", ErrMalformed, status)
	}
	shared, err := d.kem.Decapsulate(ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var join [32]byte
	if d.join != nil && status == statusOK {
		join = d.join.Secret
	}
	psk := pskOf(shared, &d.cfg.network, &join, &d.h1, ciphertext)
	if err := d.noise.setPSK(psk[:]); err != nil {
		return nil, err
	}
	payload, _, err := d.noise.read(append(e[:], msg...))
	if err != nil {
		return nil, err
	}
	p := new(payload2)
	if err := p.decode(payload, status); err != nil {
		return nil, err
	}
	if p.status == statusToken {
		return nil, ErrUnknownToken
	}
	if d.cfg.Suites&bit(p.suite) == 0 {
		return nil, fmt.Errorf("%w: offered %#b, the responder took %v", ErrSuite, d.cfg.Suites, p.suite)
	}
	return p, nil
}

// name writes message 3, in which we say who we are.
func (d *Dialler) name(p *payload2) ([]byte, *Result, error) {
	us := payload3{d.cfg.Identity.ID(), d.cfg.Instance}
	msg, keys, err := d.noise.write(us.encode())
	if err != nil {
		return nil, nil, err
	}
	msg3, err := sealMessage(&d.key, d.cfg.Rand, 3, d.noise.ephemeral(), msg)
	if err != nil {
		return nil, nil, err
	}
	r := &Result{
		Peer: d.responder, PeerInstance: p.instance, PathID: p.path, Suite: p.suite,
		Send: keys.fromInitiator, Recv: keys.fromResponder,
		Binding: d.noise.hash(), Joined: d.join != nil,
	}
	r.Exporter = exporterOf(keys, &r.Binding)
	return msg3, r, nil
}

// end forgets all secrets.
func (d *Dialler) end() { *d = Dialler{over: true} }

// bit returns the suite's bit in an offer, 0 for one that we do not know.
func bit(s frame.Suite) uint8 {
	if s != frame.AES256GCM && s != frame.ChaCha20Poly1305 {
		return 0
	}
	return 1 << (s - 1)
}

// pick returns the best of the suites in a set, 0 if it has none that we know.
func pick(suites uint8) frame.Suite {
	switch {
	case suites&SuiteAES != 0:
		return frame.AES256GCM
	case suites&SuiteChaCha != 0:
		return frame.ChaCha20Poly1305
	}
	return 0
}
