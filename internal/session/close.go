package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// idle reports whether the peer has everything that was written. s.mu is held.
func (s *Session) idle() bool {
	for _, l := range s.lanes {
		if l.held > 0 || l.wakes.Load() {
			return false
		}
	}
	return true
}

// fail ends the session. s.mu is held.
func (s *Session) fail(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.after.ended = true
	for _, p := range append([]*path(nil), s.paths...) {
		p.kill(err, lost)
	}
	for _, l := range s.lanes {
		l.drop()
	}
	s.pathlessSince = time.Time{}
	s.keys.Close()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// failNow ends the session at once. The peer sees its paths close.
func (s *Session) failNow(err error) {
	s.lock()
	s.fail(err)
	s.unlock(false)
}

// pathDied ends p. The cause is not to be taken for the end of a stream's data, nor
// for something that we closed.
func (s *Session) pathDied(p *path, cause error) {
	switch {
	case errors.Is(cause, io.EOF):
		cause = fmt.Errorf("closed by the other side: %w", io.ErrUnexpectedEOF)
	case errors.Is(cause, net.ErrClosed):
		cause = fmt.Errorf("closed: %v", cause) //nolint:errorlint // hidden on purpose
	}
	s.lock()
	p.kill(cause, lost)
	s.schedule()
	s.unlock(false)
}

// Close ends the session in order: it waits until the peer has what was written,
// 5 s at most, tells it, and returns when every goroutine of the session has ended.
func (s *Session) Close() error { return s.CloseWith(CodeNormal, "") }

// CloseWith is Close with a reason for the peer. Any code but CodeNormal does not
// wait for what was written.
func (s *Session) CloseWith(code Code, text string) error {
	parting := &ClosedError{Peer: s.cfg.Peer, Code: code, Text: text}
	if code == CodeNormal {
		s.drain(lingerLimit, nil)
	}
	s.drain(partingLimit, parting)
	s.failNow(parting)
	s.Wait()
	return nil
}

// Wait returns when the session, which has ended, has no goroutine left.
func (s *Session) Wait() {
	s.wg.Wait()
	s.cfg.Limit.add(-s.waiting.Swap(0)) // nobody counts any more
}

// Abort ends the session at once, whatever is still to be sent.
func (s *Session) Abort(code Code) {
	s.failNow(&ClosedError{Peer: s.cfg.Peer, Code: code})
}

// End ends the session at once because of err, which is what its streams return.
func (s *Session) End(err error) { s.failNow(err) }

// drain waits until the peer has everything, including the news that we part, if
// parting is given. The peer may close its paths before it acknowledges that.
func (s *Session) drain(limit time.Duration, parting *ClosedError) {
	s.lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if parting != nil && s.farewell == nil {
		s.farewell = parting
		s.say(appendClose(nil, parting.Code, parting.Text))
	}
	s.schedule()
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	drained := s.drained
	s.unlock(false)
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-drained:
	case <-s.done:
	case <-t.C:
	}
}

// ErrPeerGone reports a session that the peer ended, by closing it or by coming
// back as another run of its node.
var ErrPeerGone = errors.New("the peer has ended the session")

// A ClosedError reports a session that one end closed. It wraps net.ErrClosed when
// that was this end's wish, and ErrPeerGone otherwise.
type ClosedError struct {
	Peer   identity.ID
	Remote bool // the peer closed it
	Code   Code
	Text   string
}

func (e *ClosedError) Error() string {
	who := "here"
	if e.Remote {
		who = "by the peer"
	}
	msg := fmt.Sprintf("session with %s was closed %s", e.Peer.Short(), who)
	if e.Code != CodeNormal {
		msg += ": " + e.Code.String()
	}
	if e.Text != "" {
		msg += fmt.Sprintf(" (%q)", e.Text)
	}
	return msg
}

// Unwrap returns net.ErrClosed or ErrPeerGone.
func (e *ClosedError) Unwrap() error {
	if e.Remote || e.Code == CodeReplaced {
		return ErrPeerGone
	}
	return net.ErrClosed
}

// pathless begins the wait for another path after the last one died: the session
// keeps its state for the grace period. s.mu is held.
func (s *Session) pathless(cause error) {
	switch {
	case s.farewell != nil:
		s.fail(s.farewell)
	case s.grace <= 0:
		s.fail(&PathsLostError{Peer: s.cfg.Peer, Last: cause})
	default:
		s.pathlessSince, s.lastCause = s.now, cause
		s.arm(s.now.Add(s.grace))
	}
}

// SetGrace changes how long the session may be without paths, from now on. Without
// a grace period it ends with its last path.
func (s *Session) SetGrace(d time.Duration) {
	s.lock()
	defer s.unlock(false)
	s.grace = d
	if !s.pathlessSince.IsZero() && s.err == nil {
		s.arm(s.pathlessSince.Add(max(d, 0)))
	}
}

// Abandon ends the session if it has been without paths for so long, no stream is open,
// and the peer has all of those that were.
func (s *Session) Abandon(after time.Duration) {
	s.lock()
	defer s.unlock(false)
	if waited := s.now.Sub(s.pathlessSince); s.err == nil && !s.pathlessSince.IsZero() && waited >= after && s.unused() {
		s.fail(&PathsLostError{Peer: s.cfg.Peer, Grace: after, Last: s.lastCause})
	}
}

// unused reports whether nobody has a use for the session. s.mu is held.
func (s *Session) unused() bool {
	return !slices.ContainsFunc(s.lanes, func(l *lane) bool {
		return l.mux != nil && (l.held > 0 || l.mux.OwesEnd() || l.mux.NumStreams() > 0)
	})
}

// Pathless returns since when the session has no path, and the bytes that it keeps
// meanwhile; the zero time when it has one.
func (s *Session) Pathless() (since time.Time, held int) {
	s.mu.Lock()
	lanes := s.lanes
	since = s.pathlessSince
	for _, l := range lanes {
		held += l.held
	}
	s.mu.Unlock()
	for _, l := range lanes {
		l.recvMu.Lock()
		held += l.reasm.Waiting()
		if l.blocks != nil {
			held += l.blocks.Held()
		}
		l.recvMu.Unlock()
	}
	return since, held
}

// A PathsLostError reports a session whose last path died and that got no other
// within its grace period.
type PathsLostError struct {
	Peer  identity.ID
	Grace time.Duration // how long it waited
	Last  error         // why the last path died
}

func (e *PathsLostError) Error() string {
	waited := ""
	if e.Grace > 0 {
		waited = fmt.Sprintf(" and none came back within %v", e.Grace)
	}
	return fmt.Sprintf("every path to %s was lost%s; the last because: %v", e.Peer.Short(), waited, e.Last)
}

// Unwrap returns why the last path died.
func (e *PathsLostError) Unwrap() error { return e.Last }
