// Package dns answers for NAME.mesh, and has the system ask it.
//
//	r := &dns.Resolver{Resolve: resolve, Clients: own, Upstreams: upstreams}
//	err := r.Serve(ctx, listeners)
//
// A name that ends in .mesh is never asked for elsewhere. Other names go to the servers that the system had before, if
// the system can't ask for them itself.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Zone is what names end in.
const Zone = "mesh."

// ErrNoName is returned for a name that nobody has.
var ErrNoName = errors.New("nobody has the name")

// A Resolver answers questions. Resolve and Clients are required.
type Resolver struct {
	// Resolve returns the addresses of NAME, without .mesh; one that the peer has not is invalid. It returns ErrNoName
	// if nobody has the name, and another error if nobody can tell.
	Resolve func(ctx context.Context, name string) (v4, v6 netip.Addr, err error)
	// Clients are the addresses that may ask: the node's own. What this machine calls others is not for everybody.
	Clients []netip.Addr
	// Upstreams are asked for all other names. None, or nil: such questions are refused.
	Upstreams func() []netip.AddrPort
	// Dialer reaches them.
	Dialer *net.Dialer
	Logger *slog.Logger
}

// Bounds.
const (
	ttl            = 30 // seconds: a name may soon mean another
	maxQuestions   = 128
	resolveTimeout = 5 * time.Second
	upstreamWait   = 2 * time.Second
)

// A Socket is where questions come, by UDP and by TCP.
type Socket struct {
	UDP net.PacketConn
	TCP net.Listener
}

// Listen listens at port 53 of each address.
func Listen(addrs []netip.Addr) (out []Socket, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(out))
			out = nil
		}
	}()
	var l net.ListenConfig
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, 53).String()
		var s Socket
		if s.UDP, err = l.ListenPacket(context.Background(), "udp", at); err != nil {
			return out, fmt.Errorf("name server: %w", err)
		}
		if s.TCP, err = l.Listen(context.Background(), "tcp", at); err != nil {
			return out, errors.Join(fmt.Errorf("name server: %w", err), s.UDP.Close())
		}
		out = append(out, s)
	}
	return out, nil
}

func closeAll(sockets []Socket) (err error) {
	for _, s := range sockets {
		err = errors.Join(err, s.UDP.Close(), s.TCP.Close())
	}
	return err
}

// Serve answers until ctx ends. It closes the sockets.
func (r *Resolver) Serve(ctx context.Context, sockets []Socket) error {
	busy := make(chan struct{}, maxQuestions)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := r.refuse(q, dns.RcodeServerFailure)
		select {
		case busy <- struct{}{}:
			a = r.answer(ctx, w.RemoteAddr(), q)
			<-busy
		default: // who asks so much can ask again
		}
		if o := q.IsEdns0(); o != nil && a.IsEdns0() == nil { // RFC 6891 6.1.1
			a.SetEdns0(dns.DefaultMsgSize, false)
		}
		if err := w.WriteMsg(a); err != nil {
			r.Logger.Debug("an answer to a question for a name was not sent", "err", err)
		}
	})
	tasks, ctx := errgroup.WithContext(ctx) // one that fails ends all
	var servers []*dns.Server
	for _, s := range sockets {
		servers = append(servers, &dns.Server{PacketConn: s.UDP, Handler: handler}, &dns.Server{Listener: s.TCP, Handler: handler, MaxTCPQueries: 64})
	}
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- s.ActivateAndServe() }() // ends with ctx
		tasks.Go(func() error {
			select {
			case err := <-ended:
				return err
			case <-started:
			}
			<-ctx.Done()
			err := s.Shutdown()
			return errors.Join(err, <-ended)
		})
	}
	return tasks.Wait()
}

func (r *Resolver) refuse(q *dns.Msg, code int) *dns.Msg { return new(dns.Msg).SetRcode(q, code) }

// answer is what a question is answered with.
func (r *Resolver) answer(ctx context.Context, from net.Addr, q *dns.Msg) *dns.Msg {
	if a, err := netip.ParseAddrPort(from.String()); err != nil || !slices.Contains(r.Clients, a.Addr().Unmap()) {
		return r.refuse(q, dns.RcodeRefused)
	}
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		return r.refuse(q, dns.RcodeNotImplemented)
	}
	name := strings.ToLower(q.Question[0].Name)
	if dns.IsSubDomain(Zone, name) {
		return r.mesh(ctx, q, strings.TrimSuffix(strings.TrimSuffix(name, Zone), "."))
	}
	var upstreams []netip.AddrPort
	if r.Upstreams != nil {
		upstreams = r.Upstreams()
	}
	if len(upstreams) == 0 {
		return r.refuse(q, dns.RcodeRefused)
	}
	return r.forward(ctx, upstreams, from.Network(), q)
}

// mesh answers for a name of the mesh.
func (r *Resolver) mesh(ctx context.Context, q *dns.Msg, name string) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	v4, v6, err := r.Resolve(ctx, name)
	switch {
	case errors.Is(err, ErrNoName):
		return r.none(q, dns.RcodeNameError)
	case err != nil:
		r.Logger.Debug("a name could not be resolved", "name", name, "err", err)
		return r.refuse(q, dns.RcodeServerFailure)
	}
	head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: ttl}
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, true
	switch {
	case q.Question[0].Qclass != dns.ClassINET:
	case head.Rrtype == dns.TypeA && v4.IsValid():
		a.Answer = []dns.RR{&dns.A{Hdr: head, A: v4.AsSlice()}}
	case head.Rrtype == dns.TypeAAAA && v6.IsValid():
		a.Answer = []dns.RR{&dns.AAAA{Hdr: head, AAAA: v6.AsSlice()}}
	}
	if len(a.Answer) == 0 {
		return r.none(q, dns.RcodeSuccess)
	}
	return a
}

// none says that there is nothing, and for how long that may be believed (RFC 2308).
func (r *Resolver) none(q *dns.Msg, code int) *dns.Msg {
	a := new(dns.Msg).SetRcode(q, code)
	a.Authoritative, a.RecursionAvailable = true, true
	a.Ns = []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: Zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  Zone, Mbox: Zone, Refresh: ttl, Retry: ttl, Expire: ttl, Minttl: ttl,
	}}
	return a
}

// forward asks the servers that the system had, in their order.
func (r *Resolver) forward(ctx context.Context, upstreams []netip.AddrPort, network string, q *dns.Msg) *dns.Msg {
	c := &dns.Client{Net: network, Timeout: upstreamWait, Dialer: r.Dialer, UDPSize: dns.MaxMsgSize}
	for _, u := range upstreams {
		a, _, err := c.ExchangeContext(ctx, q, u.String())
		if err == nil {
			a.Compress = true // as it came: else it could have grown
			return a
		}
		r.Logger.Debug("a name server did not answer", "server", u, "err", err)
	}
	return r.refuse(q, dns.RcodeServerFailure)
}
