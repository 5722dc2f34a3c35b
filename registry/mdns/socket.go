package mdns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	multicastPort = 5353
	onLink        = 255     // the TTL of what no router has passed on (RFC 6762 §11)
	maxDatagram   = 1 << 16 // longer ones would be an error on Windows, not cut; what is too long is then refused
	maxLinks      = 64
)

var (
	group4 = netip.AddrFrom4([4]byte{224, 0, 0, 251})
	group6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0xfb})
)

// A network is where a directory finds its links: the system's, or a test's.
type network interface {
	// list returns the links that there are now, each with the prefixes of its own addresses.
	list() (map[link][]netip.Prefix, error)
	open(link) (port, error)
}

// A port is one end of an open link. Its methods are safe for concurrent use.
type port interface {
	send([]byte) error
	// receive waits for a packet from the link's own network, and fails once the port is closed.
	receive([]byte) (int, error)
	// allow says what the link's own network is.
	allow([]netip.Prefix)
	Close() error
}

// sockets is the system's network. Each link has a socket of its own, as not every system tells by which interface a
// packet came in; a membership is a socket's.
type sockets struct{ names []string }

func (s sockets) list() (map[link][]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	links := make(map[link][]netip.Prefix)
	for _, ifi := range interfaces {
		const usable = net.FlagUp | net.FlagMulticast
		if ifi.Flags&usable != usable || ifi.Flags&net.FlagPointToPoint != 0 || s.names != nil && !slices.Contains(s.names, ifi.Name) {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			l := link{ifi.Index, prefix.Addr().Is6()}
			if links[l] != nil || len(links) < maxLinks {
				links[l] = append(links[l], prefix)
			}
		}
	}
	return links, nil
}

// A socket implements port.
type socket struct {
	net.PacketConn
	link  link
	group *net.UDPAddr
	// read is ReadFrom, with what the system tells of the packet.
	read    func([]byte) (int, arrival, error)
	allowed atomic.Pointer[[]netip.Prefix]
}

// An arrival is what is known of a packet that came in. What the system does not tell is zero.
type arrival struct {
	from  netip.AddrPort
	to    netip.Addr
	index int
	hops  int
}

func (sockets) open(l link) (port, error) {
	ifi, err := net.InterfaceByIndex(l.index)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", l.index, err)
	}
	s := &socket{link: l}
	if l.v6 {
		s.group = &net.UDPAddr{IP: group6.AsSlice(), Port: multicastPort, Zone: ifi.Name}
		err = s.open6(ifi)
	} else {
		s.group = &net.UDPAddr{IP: group4.AsSlice(), Port: multicastPort}
		err = s.open4(ifi)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s port %d of %s: %w", s.group.IP, multicastPort, ifi.Name, err)
	}
	return s, nil
}

// listen binds to the port beside others. Given a group, package net sets SO_REUSEADDR (and SO_REUSEPORT, where that is
// what lets several in) and binds to all addresses.
func (s *socket) listen(network string, group netip.Addr) error {
	lc := net.ListenConfig{Control: reusePort}
	conn, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(group, multicastPort).String())
	s.PacketConn = conn
	return err
}

func (s *socket) open4(ifi *net.Interface) error {
	if err := s.listen("udp4", group4); err != nil {
		return err
	}
	p := ipv4.NewPacketConn(s.PacketConn)
	s.read = func(b []byte) (int, arrival, error) {
		n, cm, from, err := p.ReadFrom(b)
		if err != nil {
			return 0, arrival{}, err
		}
		a := arrivedFrom(from)
		if cm != nil {
			a.to, a.index, a.hops = addr(cm.Dst), cm.IfIndex, cm.TTL
		}
		return n, a, nil
	}
	return s.setUp(
		func() error { return p.JoinGroup(ifi, s.group) },
		func() error { return p.SetMulticastInterface(ifi) },
		func() error { return p.SetMulticastTTL(onLink) },
		func() error { return p.SetMulticastLoopback(true) },
		func() error { return told(p.SetControlMessage(ipv4.FlagTTL|ipv4.FlagDst|ipv4.FlagInterface, true)) },
	)
}

func (s *socket) open6(ifi *net.Interface) error {
	if err := s.listen("udp6", group6); err != nil {
		return err
	}
	p := ipv6.NewPacketConn(s.PacketConn)
	s.read = func(b []byte) (int, arrival, error) {
		n, cm, from, err := p.ReadFrom(b)
		if err != nil {
			return 0, arrival{}, err
		}
		a := arrivedFrom(from)
		if cm != nil {
			a.to, a.index, a.hops = addr(cm.Dst), cm.IfIndex, cm.HopLimit
		}
		return n, a, nil
	}
	return s.setUp(
		func() error { return p.JoinGroup(ifi, s.group) },
		func() error { return p.SetMulticastInterface(ifi) },
		func() error { return p.SetMulticastHopLimit(onLink) },
		func() error { return p.SetMulticastLoopback(true) },
		func() error {
			return told(p.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagDst|ipv6.FlagInterface, true))
		},
	)
}

// told is the error of asking to be told of each packet, which Windows does not do here.
func told(err error) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return err
}

// setUp takes the steps, and closes the socket when one fails.
func (s *socket) setUp(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			s.Close()
			return err
		}
	}
	return nil
}

func arrivedFrom(from net.Addr) arrival {
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return arrival{}
	}
	ap := udp.AddrPort()
	return arrival{from: netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())}
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip) // what is none is the zero address
	return a.Unmap()
}

func (s *socket) send(b []byte) error {
	_, err := s.WriteTo(b, s.group)
	return err
}

func (s *socket) receive(b []byte) (int, error) {
	for {
		n, a, err := s.read(b)
		if err != nil {
			return 0, err
		}
		if allowed := s.allowed.Load(); allowed != nil && a.acceptable(s.link, *allowed) {
			return n, nil
		}
	}
}

func (s *socket) allow(prefixes []netip.Prefix) { s.allowed.Store(&prefixes) }

// acceptable reports whether a packet was sent to all on the link by one of them, and from the port that only responders
// use: who asks from another wants a unicast answer, which there never is.
func (a arrival) acceptable(l link, own []netip.Prefix) bool {
	group := group4
	if l.v6 {
		group = group6
	}
	switch {
	case a.from.Port() != multicastPort:
		return false
	case a.to.IsValid() && a.to != group:
		return false
	case a.index != 0 && a.index != l.index:
		return false
	case a.hops != 0 && a.hops != onLink:
		return false
	}
	from := a.from.Addr()
	return from.IsLinkLocalUnicast() || slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(from) })
}
