package session

import (
	"github.com/splitmesh/splitmesh/internal/rekey"
)

// nextKeys begins a commit when one is due: the end that dialled the session
// proposes, the other says that it wishes one. s.mu is held.
func (s *Session) nextKeys() {
	if s.err != nil || !s.keys.Due(s.now) {
		return
	}
	if !s.cfg.Dialler {
		s.keys.Wish()
		s.say(appendMessage(nil, msgWish, nil))
		s.schedule()
		return
	}
	if s.proposing {
		return
	}
	s.proposing = true
	s.wg.Go(s.propose) // ends at once; the keys are made without a lock
}

// propose begins a commit.
func (s *Session) propose() {
	e, err := rekey.NewEphemeral()
	s.lock()
	defer s.unlock(false)
	s.proposing = false
	if s.err != nil || len(s.paths) == 0 {
		return // nextKeys comes again
	}
	var body []byte
	if err == nil {
		body, err = s.keys.Propose(e)
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.say(appendMessage(nil, msgPropose, body))
	s.schedule()
}

// A keyStep is the long part of taking a message about keys, done before s.mu is
// taken.
type keyStep struct {
	response   *rekey.Response
	conclusion *rekey.Conclusion
}

func (s *Session) keyStep(m *message) (k keyStep, err error) {
	switch m.kind {
	case msgPropose:
		k.response, err = rekey.Respond(m.body)
	case msgAccept:
		s.mu.Lock()
		p := s.keys.Proposed()
		s.mu.Unlock()
		k.conclusion, err = p.Conclude(m.body)
	}
	if err != nil {
		return k, &ProtocolError{"keys", err}
	}
	return k, nil
}

// handleKeys takes a message about keys. s.mu is held.
func (s *Session) handleKeys(m *message, k keyStep) error {
	var open, seal []rekey.Key
	var answer []byte
	var err error
	switch m.kind {
	case msgWish:
		err = s.keys.HandleWish()
	case msgPropose:
		answer, open, err = s.keys.HandlePropose(s.now, k.response)
	case msgAccept:
		open, seal, err = s.keys.HandleAccept(s.now, k.conclusion)
	}
	if err != nil {
		return &ProtocolError{"keys", err}
	}
	for i := range open {
		p := s.pathByID(open[i].Path)
		if err := p.openNext(&open[i]); err != nil {
			return &ProtocolError{"keys", err}
		}
	}
	if answer != nil {
		s.say(appendMessage(nil, msgAccept, answer))
	}
	for i := range seal {
		p := s.pathByID(seal[i].Path)
		p.sealNext = &seal[i]
		p.ask() // so that there is a frame of this epoch in either direction
	}
	clear(open)
	s.nextKeys()
	return nil
}

// openNext lets the path's opener take frames of the next epoch too. s.mu is held.
func (p *path) openNext(k *rekey.Key) error {
	p.omu.Lock()
	defer p.omu.Unlock()
	if p.opener == nil {
		return nil // its reader is about to say that the path is broken
	}
	return p.opener.Next(&k.Secret, k.Epoch)
}

// switchKey gives the sealer the key that is waiting for it. wmu and s.mu are held.
func (p *path) switchKey() error {
	k := p.sealNext
	if k == nil {
		return nil
	}
	p.sealNext = nil
	defer clear(k.Secret[:])
	p.epoch = k.Epoch
	return p.sealer.Rekey(&k.Secret, k.Epoch)
}

// epochOpened takes note that the path's first frame of an epoch was opened; its old
// keys are gone with that.
func (p *path) epochOpened(epoch uint32) {
	s := p.s
	s.lock()
	defer s.unlock(false)
	if k, ok := s.keys.Opened(p.info.ID, epoch); ok && p.state < Dead {
		p.sealNext = &k
		p.woken = true
	}
	s.nextKeys()
	s.schedule()
}

// open opens one frame and notices when it is the first of an epoch. After an error
// the path has no opener.
func (p *path) open(b []byte) (plain []byte, packet uint64, err error) {
	p.omu.Lock()
	o := p.opener
	before := o.Epoch()
	plain, err = o.Open(b)
	epoch := o.Epoch()
	if err != nil {
		p.opener = nil
	}
	p.omu.Unlock()
	if err == nil && epoch != before {
		p.epochOpened(epoch)
	}
	return plain, o.Packet(), err
}

// size is how long the next frame is, by its first bytes. After an error the path
// has no opener.
func (p *path) size(peek []byte) (n int, err error) {
	p.omu.Lock()
	defer p.omu.Unlock()
	if n, err = p.opener.Size(peek); err != nil {
		p.opener = nil
	}
	return n, err
}
