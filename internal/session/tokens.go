package session

import (
	"context"
	"fmt"
	"slices"

	"github.com/splitmesh/splitmesh/internal/handshake"
)

// tokensAhead is how many tokens that nobody has spent the end that issues them
// admits: more than the dialler can be ahead by, with MaxPaths handshakes at once
// and some of which it can't tell how they ended.
const tokensAhead = 16

// A Token admits one path to a session. Both ends derive them, in the same order,
// from the join secret; so they cost no message, and never run out while the
// session has no path.
type Token [32]byte

// issueTokens admits the next n tokens. s.mu is held.
func (s *Session) issueTokens(n int) {
	token := handshake.JoinTokens(&s.join)
	for range n {
		if s.cfg.OnToken != nil {
			s.cfg.OnToken(token(s.nextToken))
		}
		s.nextToken++
	}
}

// TokenSpent admits another token in place of one with which the peer has completed
// a handshake.
func (s *Session) TokenSpent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.issueTokens(1)
	}
}

// TakeToken returns a token that admits one more path: the oldest that came back, or
// a new one. It waits until something has come from the peer, who knows of no tokens
// before. Use it or ReturnToken it.
func (s *Session) TakeToken(ctx context.Context) (handshake.Join, error) {
	select {
	case <-s.proven:
	case <-s.done:
	case <-ctx.Done():
		return handshake.Join{}, fmt.Errorf("waiting for %s to begin the session: %w", s.cfg.Peer.Short(), context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return handshake.Join{}, s.err
	}
	j := handshake.Join{Secret: s.join}
	if len(s.returned) > 0 {
		j.Token = s.returned[0]
		s.returned = s.returned[1:]
		return j, nil
	}
	j.Token = handshake.JoinToken(&s.join, s.nextToken)
	s.nextToken++
	return j, nil
}

// ReturnToken takes back a token with which no path came about: the peer forgets
// one only when a handshake with it has ended well.
func (s *Session) ReturnToken(j handshake.Join) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.returned, Token(j.Token)) {
		s.returned = append(s.returned, j.Token)
	}
}

// JoinSecret is mixed into the handshake of every path that joins.
func (s *Session) JoinSecret() [32]byte { return s.join }
