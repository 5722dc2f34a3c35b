package mesh

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
)

// accepted is what the node remembers of a session.
type accepted struct {
	dialled bool
	hop     bool // carries circuits; of a dialled one, set for good; else guarded by Node.mu
	// services says that the peer may use this node's services, for it proved
	// the network key. A session without may only use the relay.
	services bool
	tokens   [][32]byte // hashes of those issued and not yet spent, oldest first; guarded by Node.mu
}

// admit judges an arrival by its opening. What it returns does the rest.
func (n *Node) admit(opening []byte, info session.PathInfo) func(net.Conn) {
	select {
	case n.pending <- struct{}{}:
	default:
		n.log.Warn("arrival refused: too many handshakes at once", "limit", maxPending)
		return nil
	}
	r, services, err := n.respond(opening, info)
	if err != nil {
		<-n.pending
		n.log.Debug("arrival refused", "via", info.Remote, "err", err)
		return nil
	}
	return func(conn net.Conn) {
		defer func() { <-n.pending }()
		if conn == nil {
			return
		}
		if info.Remote == "" && conn.RemoteAddr() != nil {
			info.Remote = conn.RemoteAddr().String()
			info.Host = remoteHost(conn)
		}
		leave, ok := n.enter(&info)
		if !ok {
			n.log.Warn("arrival refused: too many handshakes at once from there", "via", info.Remote, "limit", maxPendingOf)
			conn.Close()
			return
		}
		defer leave()
		if !n.hold() {
			conn.Close()
			return
		}
		defer n.wg.Done()
		if err := n.welcome(conn, r, services, info); err != nil {
			n.log.Debug("arrival failed", "via", info.Remote, "err", err)
		}
	}
}

// enter counts a handshake by where it comes from. It reports false when there
// are too many from there: one host that stalls is not to keep out all others.
func (n *Node) enter(info *session.PathInfo) (leave func(), ok bool) {
	source := info.Remote
	if host, _, err := net.SplitHostPort(source); err == nil {
		source = host
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sources[source] >= maxPendingOf {
		return nil, false
	}
	n.sources[source]++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.sources[source]--; n.sources[source] == 0 {
			delete(n.sources, source)
		}
	}, true
}

// respond opens the opening with the keys that the node answers to.
func (n *Node) respond(opening []byte, info session.PathInfo) (r *handshake.Responder, services bool, err error) {
	r, err = handshake.NewResponder(n.handshakeConfig(false), n.seen, opening)
	if err == nil {
		return r, true, nil
	}
	if n.relay == nil || n.NetworkKey == nil || !info.Direct() {
		return nil, false, err
	}
	r, err = handshake.NewResponder(n.handshakeConfig(true), n.seen, opening)
	return r, false, err
}

// handshakeConfig is what the node brings to a handshake; hop leaves out the
// network key, which relays do not have.
func (n *Node) handshakeConfig(hop bool) *handshake.Config {
	cfg := &handshake.Config{Identity: n.key, Instance: n.instance}
	if !hop {
		cfg.NetworkKey = n.NetworkKey
	}
	return cfg
}

// welcome answers the opening, and makes a session of the path or adds it to one.
func (n *Node) welcome(conn net.Conn, r *handshake.Responder, services bool, info session.PathInfo) error {
	token, joins := r.Join()
	answer := handshake.Answer{PathID: session.FirstPath}
	var s *session.Session
	if joins {
		if s = n.admitted(token); s == nil {
			answer = handshake.Answer{Refuse: true}
		} else {
			secret := s.JoinSecret()
			answer = handshake.Answer{PathID: s.AllotPath(), JoinSecret: &secret}
		}
	}
	operator := n.operatorSoon(info.Relay)
	res, err := r.Run(n.ctx, conn, answer) // closes conn on error
	if err != nil {
		return err
	}
	if n.turnAway(conn, res.Peer) {
		return ErrBlocked
	}
	if joins && !n.spend(token, res.Peer) {
		conn.Close()
		return errSpent
	}
	info.Operator = operator()
	if joins {
		s.TokenSpent()
		return s.AddPath(conn, res, info)
	}
	if err := n.checkStanding(n.ctx, res.Peer); err != nil {
		conn.Close()
		return err
	}
	if err := n.endGhosts(res.Peer, res.PeerInstance); err != nil {
		conn.Close()
		return err
	}
	s, err = n.newSession(res, &accepted{services: services}, nil)
	if err != nil {
		conn.Close()
		return err
	}
	return s.AddPath(conn, res, info)
}

// newSession makes the session that a first handshake leads to and keeps it until
// it ends.
func (n *Node) newSession(res *handshake.Result, a *accepted, l *link) (*session.Session, error) {
	cfg := session.Config{
		Local: n.id, Peer: res.Peer, PeerInstance: res.PeerInstance, Dialler: a.dialled, Exporter: res.Exporter,
		Policy: n.leastPolicy(a.hop, res.Peer), Budget: n.budget, Limit: n.limit, Logger: n.log, OnEnd: n.ended,
	}
	if l != nil {
		cfg.Cells = l.key.cells
	}
	if !a.hop {
		cfg.Scheduler = n.Scheduler
	}
	var s *session.Session
	cfg.OnToken = func(t session.Token) { n.keepToken(t, s, a) }
	cfg.OnStream = func(st *session.Stream) {
		if !n.goRun(func() { n.serve(s, a, st) }) { // ends with the opening, or with the circuit
			st.Reset()
		}
	}
	if l != nil {
		cfg.OnPolicy = l.policyChanged
	}
	cfg.OnPath = func(s *session.Session, e session.Event) {
		if l != nil {
			l.pathChanged(s, e)
		}
		n.pathChanged(s, a, e)
	}
	s = session.New(cfg)
	if a.hop {
		s.CarryCircuits()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, errNodeClosed
	case n.blockedLocked(res.Peer) != nil:
		return nil, ErrBlocked
	case len(n.sessions) >= maxSessions:
		return nil, &LimitError{Relay: n.id, Limit: "sessions", Value: maxSessions}
	}
	n.sessions[s] = a
	n.noteHealth(res.Peer, true, nil)
	n.peers[res.Peer] = append(n.peers[res.Peer], s)
	if l := n.links[plainKey(res.Peer)]; l != nil && !a.dialled {
		l.signal() // it may be outranked now
	}
	return s, nil
}

// ended forgets a session.
func (n *Node) ended(s *session.Session, err error) {
	carried := s.Carried()
	n.mu.Lock()
	if a := n.sessions[s]; a != nil {
		for _, t := range a.tokens {
			delete(n.tokens, t)
		}
	}
	if n.sessions[s] != nil {
		n.noteHealth(s.Peer(), true, err)
		n.past.count(carried)
	}
	delete(n.sessions, s)
	delete(n.pathless, s)
	n.peers[s.Peer()] = slices.DeleteFunc(n.peers[s.Peer()], func(t *session.Session) bool { return t == s })
	if len(n.peers[s.Peer()]) == 0 {
		delete(n.peers, s.Peer())
	}
	if n.reservations[s.Peer()] == s {
		delete(n.reservations, s.Peer())
		n.reservationsChanged()
	}
	if n.asked[s.Peer()] == s {
		delete(n.asked, s.Peer())
	}
	n.mu.Unlock()
	if n.relay != nil {
		n.relay.sessionEnded(s)
	}
	n.goRun(s.Wait) // so that Close waits for it; ends with the paths
	n.log.Debug("session ended", "peer", s.Peer().Short(), "cause", err)
}

// endGhosts ends the sessions with an earlier run of peer's. It refuses a peer
// that has too many with this one.
func (n *Node) endGhosts(peer identity.ID, instance [16]byte) error {
	n.mu.Lock()
	var ghosts []*session.Session
	alive := 0
	for _, s := range n.peers[peer] {
		if s.PeerInstance() != instance {
			ghosts = append(ghosts, s)
		} else {
			alive++
		}
	}
	n.mu.Unlock()
	for _, s := range ghosts {
		s.Abort(session.CodeReplaced)
	}
	if alive >= maxSessionsOfPeer {
		return fmt.Errorf("%s has %d sessions with us already", peer.Short(), alive)
	}
	return nil
}

// Tokens are kept by their hash, so that the time of a look-up says nothing
// about those that are there.
func (n *Node) keepToken(t session.Token, s *session.Session, a *accepted) {
	h := sha256.Sum256(t[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(a.tokens) == maxTokens { // the dialler takes the oldest first
		delete(n.tokens, a.tokens[0])
		a.tokens = slices.Delete(a.tokens, 0, 1)
	}
	a.tokens = append(a.tokens, h)
	n.tokens[h] = s
}

// admitted returns the session that t admits a path to. The token is not spent by
// being shown: who hides our answer must not be able to spend it.
func (n *Node) admitted(t [32]byte) *session.Session {
	h := sha256.Sum256(t[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tokens[h]
}

var errSpent = errors.New("the token has admitted a path already")

// spend takes the token of a handshake that peer has completed out of use. It
// reports false when it was spent meanwhile, or is another's.
func (n *Node) spend(t [32]byte, peer identity.ID) bool {
	h := sha256.Sum256(t[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.tokens[h]
	if s == nil || s.Peer() != peer {
		return false
	}
	delete(n.tokens, h)
	if a := n.sessions[s]; a != nil {
		a.tokens = slices.DeleteFunc(a.tokens, func(t [32]byte) bool { return t == h })
	}
	return true
}
