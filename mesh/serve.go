package mesh

import (
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
)

// serve reads a stream's request and hands the stream to whom it is for.
func (n *Node) serve(s *session.Session, a *accepted, st *session.Stream) {
	st.SetReadDeadline(time.Now().Add(openTimeout))
	q, err := readRequest(st)
	if err != nil {
		n.log.Debug("stream refused", "peer", s.Peer().Short(), "err", err)
		st.Reset()
		return
	}
	st.SetReadDeadline(time.Time{})
	switch q.service {
	case serviceReserve, serviceConnect:
		n.carries(s, a)
		n.serveRelay(s, st, q)
	case serviceCircuit:
		n.serveCircuit(s, st, q)
	case serviceDrain:
		n.serveDrain(s, a, st)
	case serviceObserve:
		n.serveObserve(s, a, st, q)
	default:
		n.serveService(s, a, st, q.service)
	}
}

// carries notes that a session carries circuits. It dies with its last path, so
// that those who use them turn to other relays at once.
func (n *Node) carries(s *session.Session, a *accepted) {
	n.mu.Lock()
	first := !a.hop
	a.hop = true
	n.mu.Unlock()
	if first {
		s.SetGrace(0)
		s.CarryCircuits()
	}
}

// openTimeout bounds how long a request may take to arrive, and an answer.
const openTimeout = 10 * time.Second

func refuse(st *session.Stream, a openAnswer) {
	st.SetWriteDeadline(time.Now().Add(openTimeout))
	_, _ = st.Write(appendAnswer(nil, a)) // who is not there to read it needs no answer
	st.Close()
}

func (n *Node) serveService(s *session.Session, a *accepted, st *session.Stream, service string) {
	n.mu.Lock()
	l := n.services[service]
	n.mu.Unlock()
	if !a.services {
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	if n.Authorize != nil {
		if err := n.Authorize(n.ctx, s.Peer(), service); err != nil {
			n.log.Info("conn refused", "peer", s.Peer().Short(), "service", service, "err", err)
			refuse(st, openAnswer{status: statusRefused})
			return
		}
	}
	if l == nil {
		refuse(st, openAnswer{status: statusNoService})
		return
	}
	if a := wrongPurpose(n.policy, st.Policy()); a != nil && s.Peer() != n.id {
		refuse(st, *a)
		return
	}
	c := &Conn{stream: st, session: s, local: Addr{n.id, service}, remote: Addr{ID: s.Peer()}}
	// The answer goes before the conn, so that nothing of the application's
	// can overtake it.
	if !l.reserve() {
		refuse(st, openAnswer{status: statusBusy})
		return
	}
	st.SetWriteDeadline(time.Now().Add(openTimeout))
	_, err := st.Write(appendAnswer(nil, openAnswer{}))
	st.SetWriteDeadline(time.Time{})
	l.deliver(c, err)
}
