package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/transport"
)

// A node behind an address translation does not know by itself where others reach it.
// It asks peers that it has dialled directly where they see it from, and which of its
// listeners answer there (docs/SPEC.md, "Being observed"). What enough of them agree
// on goes into its record.

const (
	// observeEvery is how often the node looks whom it could ask, observedFor how long
	// an answer counts, observeAgain after how long a peer is asked again.
	observeEvery = time.Minute
	observeAgain = 30 * time.Minute
	observedFor  = 2 * time.Hour
	// maxObservers bounds the peers that are asked.
	maxObservers = 16
	// minAgreed is in how many networks there must be peers that say the same.
	minAgreed = 2

	maxObserved    = 4 // listeners in a request, of which each is at most:
	maxObserveAddr = 128
	maxObserveBody = maxObserved * (2 + maxObserveAddr)
	// Of the others' requests: callTimeout bounds the calls for one, maxCalls those at
	// once, callEvery how soon the next of one peer is heeded, maxCalled the peers of
	// which that is remembered.
	callTimeout = 5 * time.Second
	maxCalls    = 16
	callEvery   = time.Minute
	maxCalled   = 4096
)

// An observation is what a peer says of us.
type observation struct {
	network string // that the peer is in
	host    netip.Addr
	reached []multiaddr.Multiaddr // at which the peer reached us
	at      time.Time
}

// A question is when a peer was asked last, and over which session.
type question struct {
	s  *session.Session
	at time.Time
}

// due reports whether the peer is to be asked again, over s: with another session than
// before, we may be elsewhere.
func (q question) due(s *session.Session, now time.Time) bool {
	age := now.Sub(q.at)
	return age >= observeAgain || s != q.s && age >= callEvery
}

// tellsWhere reports whether the node wants the world to know where it is reached. One of
// a private policy can't be dialled there: it would only show its address, unless it relays.
func (n *Node) tellsWhere() bool {
	return n.Directory != nil && (n.Relay != nil || !n.policy.Purpose.Private())
}

// keepObserved asks peers where they see this node.
func (n *Node) keepObserved() {
	seen := make(map[identity.ID]observation)
	asked := make(map[identity.ID]question)
	t := time.NewTicker(observeEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-n.dialled:
		case <-n.ctx.Done():
			return
		}
		listeners := n.unsure()
		if len(listeners) == 0 {
			continue
		}
		now := time.Now()
		for id, q := range asked {
			if now.Sub(q.at) > observedFor {
				delete(asked, id)
				delete(seen, id)
			}
		}
		for s, network := range n.observers() {
			q, again := asked[s.Peer()]
			if again && !q.due(s, now) || !again && len(asked) >= maxObservers {
				continue
			}
			if q.s != s {
				delete(seen, s.Peer())
			}
			asked[s.Peer()] = question{s, now}
			o, err := n.askObserver(s, network, listeners)
			if err != nil {
				n.log.Debug("not observed", "peer", s.Peer().Short(), "err", err)
				continue
			}
			seen[s.Peer()] = o
		}
		n.setObserved(agreed(seen))
	}
}

// setObserved publishes the addresses if they are others than before.
func (n *Node) setObserved(addrs []multiaddr.Multiaddr) {
	n.mu.Lock()
	same := slices.EqualFunc(addrs, n.observed, func(a, b multiaddr.Multiaddr) bool { return a.Equal(b) })
	n.observed = addrs
	n.mu.Unlock()
	if !same {
		n.log.Info("reached from outside", "addrs", addrs)
		n.publish()
	}
}

// unsure are the addresses of listeners of which others may know more than we: those
// on an unspecified or private host.
func (n *Node) unsure() (out []multiaddr.Multiaddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.arrivals {
		a := l.Multiaddr()
		host, ok := hostOf(a)
		if ok && (host.IsUnspecified() || host.IsPrivate()) && len(out) < maxObserved && len(a.Bytes()) <= maxObserveAddr {
			out = append(out, a)
		}
	}
	return out
}

// observers are sessions with peers that this node dialled directly, one of each peer,
// and the networks that they are in.
func (n *Node) observers() map[*session.Session]string {
	out := make(map[*session.Session]string)
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := make(map[identity.ID]bool)
	for _, l := range n.links {
		if l.key.relayedOnly || l.key.peer == n.id || asked[l.key.peer] || !l.begunSession() || l.s.Err() != nil {
			continue
		}
		l.mu.Lock()
		for _, r := range l.live {
			if host := remoteHost(r.conn); host.IsValid() && r.direct() {
				out[l.s], asked[l.key.peer] = networkOf(host), true
			}
		}
		l.mu.Unlock()
	}
	return out
}

// askObserver asks a peer where it sees us.
func (n *Node) askObserver(s *session.Session, network string, listeners []multiaddr.Multiaddr) (o observation, err error) {
	var body []byte
	for _, a := range listeners {
		b := a.Bytes()
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(b))), b...)
	}
	st, answer, err := n.ask(n.ctx, s, openRequest{serviceObserve, body})
	if err != nil {
		return o, err
	}
	st.Close()
	host, ok := netip.AddrFromSlice(answer[:max(0, len(answer)-1)])
	if !ok {
		return o, &FormatError{"no address in the answer to " + serviceObserve}
	}
	o = observation{network: network, host: host.Unmap(), at: time.Now()}
	for i, a := range listeners {
		if answer[len(answer)-1]&(1<<i) != 0 {
			o.reached = append(o.reached, withHost(a, o.host))
		}
	}
	return o, nil
}

// withHost puts an IP address in the place of the one that a begins with.
func withHost(a multiaddr.Multiaddr, host netip.Addr) multiaddr.Multiaddr {
	code := multiaddr.P_IP6
	if host.Is4() {
		code = multiaddr.P_IP4
	}
	c, err := multiaddr.NewComponent(multiaddr.ProtocolWithCode(code).Name, host.String())
	if err != nil {
		return nil // not of an address without a zone
	}
	return append(multiaddr.Multiaddr{*c}, a[1:]...)
}

// agreed are the addresses at which peers of several networks reached us, on hosts at
// which most networks that said anything of the family see us.
func agreed(seen map[identity.ID]observation) (out []multiaddr.Multiaddr) {
	type set map[string]struct{}
	networks := make(map[bool]set) // of those who see us, by family
	hosts := make(map[netip.Addr]set)
	reached := make(map[string]set)
	add := func(s set, network string) set {
		if s == nil {
			s = make(set)
		}
		s[network] = struct{}{}
		return s
	}
	addrs := make(map[string]multiaddr.Multiaddr)
	for _, o := range seen {
		networks[o.host.Is4()] = add(networks[o.host.Is4()], o.network)
		hosts[o.host] = add(hosts[o.host], o.network)
		for _, a := range o.reached {
			key := a.String()
			addrs[key] = a
			reached[key] = add(reached[key], o.network)
		}
	}
	for key, by := range reached {
		host, ok := hostOf(addrs[key])
		if ok && public(host) && len(by) >= minAgreed && 2*len(hosts[host]) > len(networks[host.Is4()]) {
			out = append(out, addrs[key])
		}
	}
	slices.SortFunc(out, func(a, b multiaddr.Multiaddr) int { return a.Compare(b) })
	return out[:min(len(out), 2*maxObserved)]
}

// shared is for the customers of one provider (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// public reports whether a host is one of the Internet.
func public(host netip.Addr) bool {
	return host.IsGlobalUnicast() && !host.IsPrivate() && !shared.Contains(host)
}

// callers bounds what others make this node call.
type callers struct {
	mu   sync.Mutex
	busy int
	last map[identity.ID]time.Time // when a peer was called
}

// enter reports whether peer may be called now; then leave is due.
func (c *callers) enter(peer identity.ID, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.last {
		if now.Sub(at) >= callEvery {
			delete(c.last, id)
		}
	}
	if _, soon := c.last[peer]; soon || c.busy >= maxCalls || len(c.last) >= maxCalled {
		return false
	}
	if c.last == nil {
		c.last = make(map[identity.ID]time.Time)
	}
	c.last[peer] = now
	c.busy++
	return true
}

func (c *callers) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
}

var errAnswered = errors.New("it answers")

// A call hangs up when the peer has answered, and so proven that it is there.
type call struct {
	net.Conn
	answered bool
}

// Write has the dialler's last message, which it makes of the peer's answer.
func (c *call) Write([]byte) (int, error) {
	c.answered = true
	return 0, errAnswered
}

// reaches reports whether peer answers at addr.
func (n *Node) reaches(ctx context.Context, peer identity.ID, addr multiaddr.Multiaddr) bool {
	d, err := handshake.NewDialler(n.handshakeConfig(false), peer, nil)
	if err != nil {
		return false
	}
	conn, err := n.dialRoute(ctx, linkKey{peer: peer}, &route{addr: addr}, d.Opening())
	if err != nil {
		return false
	}
	c := &call{Conn: conn}
	_, _ = d.Run(ctx, c) // which fails, and closes conn
	return c.answered
}

// serveObserve tells a peer where we see it from, and calls its listeners there, and
// nowhere else.
func (n *Node) serveObserve(s *session.Session, a *accepted, st *session.Stream, q openRequest) {
	host, ok := seenAt(s)
	addrs, err := observeAddrs(q.body)
	if !ok || err != nil {
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	// Without the network key we would not be answered. And who comes from a host that is not
	// public may stand behind it: a proxy of ours, or this machine.
	if !a.services || len(addrs) == 0 || !public(host) {
		refuse(st, openAnswer{body: append(host.AsSlice(), 0)})
		return
	}
	if !n.callers.enter(s.Peer(), time.Now()) {
		refuse(st, openAnswer{status: statusBusy})
		return
	}
	defer n.callers.leave()
	ctx, cancel := context.WithTimeout(n.ctx, callTimeout)
	defer cancel()
	var (
		wg     sync.WaitGroup
		bits   [maxObserved]bool
		answer byte
	)
	for i, addr := range addrs {
		if addr = withHost(addr, host); !callable(addr) || !n.canDial(addr) {
			continue
		}
		wg.Go(func() { bits[i] = n.reaches(ctx, s.Peer(), addr) })
	}
	wg.Wait()
	for i, b := range bits {
		if b {
			answer |= 1 << i
		}
	}
	refuse(st, openAnswer{body: append(host.AsSlice(), answer)})
}

// seenAt is the host from which s's peer has reached us.
func seenAt(s *session.Session) (host netip.Addr, ok bool) {
	for _, p := range s.Stats().Paths {
		if !p.Dialled && p.Host.IsValid() {
			return p.Host, true
		}
	}
	return host, false
}

// networkOf is the network that a host is in: IPv4 /16 or IPv6 /32.
func networkOf(host netip.Addr) string {
	bits := 32
	if host.Is4() {
		bits = 16
	}
	return netip.PrefixFrom(host, bits).Masked().String()
}

// remoteHost is the IP address that a connection leads to, zero if it does not tell.
func remoteHost(conn net.Conn) (host netip.Addr) {
	if a := conn.RemoteAddr(); a != nil {
		if at, err := netip.ParseAddrPort(a.String()); err == nil {
			return at.Addr().Unmap().WithZone("")
		}
	}
	return host
}

// callable reports whether a is at a port of the kind that people listen on: those below
// 1024 belong to other protocols, but for the web's.
func callable(a multiaddr.Multiaddr) bool {
	_, hostport, _, err := transport.HostPort(a)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddrPort(hostport)
	return err == nil && (at.Port() >= 1024 || at.Port() == 80 || at.Port() == 443)
}

// observeAddrs reads the body of a request.
func observeAddrs(b []byte) (addrs []multiaddr.Multiaddr, err error) {
	for len(b) > 0 {
		n := 0
		if len(b) >= 2 {
			n = int(binary.BigEndian.Uint16(b))
		}
		if len(addrs) == maxObserved || n == 0 || n > maxObserveAddr || len(b) < 2+n {
			return nil, &FormatError{"addresses to be called at"}
		}
		a, err := multiaddr.NewMultiaddrBytes(b[2 : 2+n])
		if err != nil {
			return nil, err
		}
		if _, ok := hostOf(a); !ok {
			return nil, &FormatError{"an address to be called at has no IP host"}
		}
		addrs, b = append(addrs, a), b[2+n:]
	}
	return addrs, nil
}
