package rekey

import "time"

// The steps as one, for tests.

func (s *State) proposeNew() ([]byte, error) {
	e, err := NewEphemeral()
	if err != nil {
		return nil, err
	}
	return s.Propose(e)
}

func (s *State) handlePropose(now time.Time, body []byte) ([]byte, []Key, error) {
	r, err := Respond(body)
	if err != nil {
		return nil, nil, err
	}
	return s.HandlePropose(now, r)
}

func (s *State) handleAccept(now time.Time, body []byte) (open, seal []Key, err error) {
	c, err := s.Proposed().Conclude(body)
	if err != nil {
		return nil, nil, err
	}
	return s.HandleAccept(now, c)
}
