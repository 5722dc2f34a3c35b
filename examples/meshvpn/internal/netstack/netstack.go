// Package netstack speaks TCP, UDP and ICMP echo over packets, where no kernel can: without a network device, and so
// without root. It is gVisor's network stack.
//
//	s, err := netstack.New(netstack.Config{Addrs: addrs, MTU: 1420})
//	defer s.Close()
//	go carry(s.ReadPacket, s.WritePacket) // to and from whoever knows where packets go
//	conn, err := s.DialTCP(ctx, netip.MustParseAddrPort("[fd00::2]:80"))
//
// Device is the same for those who want a device that gives and takes packets as a TUN device with IFF_VNET_HDR does.
//
// What it sends waits in a queue of a bounded length; when that is full packets are lost, as on every link.
package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// A Config says what a Stack is. Addrs is required.
type Config struct {
	Addrs []netip.Addr
	// MTU is the most bytes of a packet that it sends. 0 means 1420.
	MTU int
}

const (
	nic        = 1
	queue      = 1024 // packets that wait to be read
	defaultMTU = 1420
	minMTU     = 1280 // IPv6 asks for it
	maxPacket  = 1<<16 - 1
)

// A Stack is a host with addresses of its own. Close it.
type Stack struct {
	stack *stack.Stack
	link  *channel.Endpoint
	ctx   context.Context // ends with Close
	close func()
}

// New makes a stack that sends whole packets.
func New(cfg Config) (*Stack, error) { return start(cfg, false) }

func start(cfg Config, offload bool) (*Stack, error) {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.MTU < minMTU || cfg.MTU > maxPacket {
		return nil, fmt.Errorf("netstack: an MTU of %d is not between %d and %d", cfg.MTU, minMTU, maxPacket)
	}
	s := &Stack{link: channel.New(queue, uint32(cfg.MTU), ""), stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})}
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx, s.close = ctx, sync.OnceFunc(func() {
		cancel()
		s.stack.Destroy()
		s.link.Close()
	})
	if offload {
		// Only TCP leaves its checksum undone. What comes is not checked: it may be such a packet, and was sealed on its way.
		s.link.SupportedGSOKind, s.link.LinkEPCapabilities = stack.HostGSOSupported, stack.CapabilityRXChecksumOffload
	}
	if err := s.set(cfg.Addrs); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) set(addrs []netip.Addr) error {
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return fmt.Errorf("netstack: SACK: %s", err)
	}
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return fmt.Errorf("netstack: interface: %s", err)
	}
	if len(addrs) == 0 {
		return errors.New("netstack: no address")
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if !a.IsValid() {
			return errors.New("netstack: an address that is none")
		}
		protocol, everything := protocolOf(a)
		err := s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix()}, stack.AddressProperties{})
		if err != nil {
			return fmt.Errorf("netstack: address %v: %s", a, err)
		}
		s.stack.AddRoute(tcpip.Route{Destination: everything, NIC: nic})
	}
	return nil
}

func protocolOf(a netip.Addr) (tcpip.NetworkProtocolNumber, tcpip.Subnet) {
	if a.Unmap().Is4() {
		return ipv4.ProtocolNumber, header.IPv4EmptySubnet
	}
	return ipv6.ProtocolNumber, header.IPv6EmptySubnet
}

// Close ends all conns and listeners.
func (s *Stack) Close() error {
	s.close()
	return nil
}

// ReadPacket waits for a packet that the stack sends, and copies it to p, which has room for MTU bytes. After Close the
// error is net.ErrClosed.
func (s *Stack) ReadPacket(p []byte) (int, error) {
	n, _, err := s.read(p)
	return n, err
}

func (s *Stack) read(p []byte) (int, stack.GSO, error) {
	pkt := s.link.ReadContext(s.ctx)
	if pkt == nil {
		return 0, stack.GSO{}, net.ErrClosed
	}
	defer pkt.DecRef()
	if pkt.Size() > len(p) {
		return 0, stack.GSO{}, io.ErrShortBuffer
	}
	n := 0
	for _, part := range pkt.AsSlices() {
		n += copy(p[n:], part)
	}
	return n, pkt.GSOOptions, nil
}

// ErrPacket reports what is no packet of IPv4 or IPv6.
var ErrPacket = errors.New("netstack: neither an IPv4 packet nor an IPv6 packet")

// WritePacket has the stack receive a packet. It keeps nothing of p.
func (s *Stack) WritePacket(p []byte) error {
	if s.ctx.Err() != nil {
		return net.ErrClosed
	}
	if len(p) == 0 || len(p) > maxPacket {
		return ErrPacket
	}
	var protocol tcpip.NetworkProtocolNumber
	switch p[0] >> 4 {
	case 4:
		protocol = ipv4.ProtocolNumber
	case 6:
		protocol = ipv6.ProtocolNumber
	default:
		return ErrPacket
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	defer pkt.DecRef()
	s.link.InjectInbound(protocol, pkt)
	return nil
}

func fullAddr(a netip.AddrPort) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	ip := a.Addr().Unmap().WithZone("")
	protocol, _ := protocolOf(ip)
	full := tcpip.FullAddress{NIC: nic, Port: a.Port()}
	if ip.IsValid() && !ip.IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(ip.AsSlice())
	}
	return full, protocol
}

// DialTCP connects to a TCP port. One that refuses is syscall.ECONNREFUSED, as the kernel has it.
func (s *Stack) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	full, protocol := fullAddr(to)
	c, err := gonet.DialContextTCP(ctx, s.stack, full, protocol)
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Err.Error() == new(tcpip.ErrConnectionRefused).String() { // gonet keeps the text alone
		e.Err = syscall.ECONNREFUSED
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ListenTCP listens on a TCP port, of one address or, where that is unspecified, of all of its kind.
func (s *Stack) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	full, protocol := fullAddr(at)
	l, err := gonet.ListenTCP(s.stack, full, protocol)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// DialUDP makes a conn that exchanges datagrams with a UDP port.
func (s *Stack) DialUDP(to netip.AddrPort) (net.Conn, error) {
	full, protocol := fullAddr(to)
	c, err := gonet.DialUDP(s.stack, nil, &full, protocol)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ListenUDP receives datagrams at a UDP port, as ListenTCP listens.
func (s *Stack) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	full, protocol := fullAddr(at)
	c, err := gonet.DialUDP(s.stack, &full, nil, protocol)
	if err != nil {
		return nil, err
	}
	return c, nil
}
