package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/internal/handshake"
)

// TakeToken returns a token that admits one more path, waiting for the peer to
// issue one if need be, and asks the peer for another when few are left. The oldest
// goes first: the peer forgets the oldest when there are too many. Use it or
// ReturnToken it.
func (s *Session) TakeToken(ctx context.Context) (handshake.Join, error) {
	for {
		s.mu.Lock()
		if s.err != nil {
			defer s.mu.Unlock()
			return handshake.Join{}, s.err
		}
		if len(s.tokens) > 0 {
			j := handshake.Join{Token: s.tokens[0], Secret: s.join}
			s.tokens = s.tokens[1:]
			s.now = time.Now()
			if len(s.tokens) < initialTokens { // not for each that comes back: the peer would forget those
				s.say(appendWant(nil, 1))
			}
			s.schedule()
			s.unlock(false)
			return j, nil
		}
		more := s.tokenC
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return handshake.Join{}, fmt.Errorf("waiting for %s to admit another path: %w", s.cfg.Peer.Short(), context.Cause(ctx))
		}
	}
}

// ReturnToken takes back a token with which no path came about: the peer forgets
// one only when a handshake with it has ended well.
func (s *Session) ReturnToken(j handshake.Join) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && len(s.tokens) < maxTokenStock {
		s.tokens = slices.Insert(s.tokens, 0, Token(j.Token))
		close(s.tokenC)
		s.tokenC = make(chan struct{})
	}
}

// JoinSecret is mixed into the handshake of every path that joins.
func (s *Session) JoinSecret() [32]byte { return s.join }
