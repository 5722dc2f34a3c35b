package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Ping sends an ICMP echo request (RFC 792, RFC 4443) and returns how long its answer took.
func (s *Stack) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	full, protocol := fullAddr(netip.AddrPortFrom(to, 0))
	transport, kind := icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest)
	if protocol == ipv4.ProtocolNumber {
		transport, kind = icmp.ProtocolNumber4, byte(header.ICMPv4Echo)
	}
	var queue waiter.Queue
	e, terr := s.stack.NewEndpoint(transport, protocol, &queue)
	if terr != nil {
		return 0, fmt.Errorf("ping: %s", terr)
	}
	defer e.Close()
	if terr := e.Connect(full); terr != nil {
		return 0, fmt.Errorf("ping %v: %s", to, terr)
	}
	entry, readable := waiter.NewChannelEntry(waiter.EventIn)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)

	const size = 8 // of the header: the kind first; the identifier and the checksum are the stack's
	request := make([]byte, size+32)
	request[0] = kind
	rand.Read(request[size:])
	began := time.Now()
	if _, terr := e.Write(bytes.NewReader(request), tcpip.WriteOptions{}); terr != nil {
		return 0, fmt.Errorf("ping %v: %s", to, terr)
	}
	for {
		select {
		case <-readable:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.ctx.Done():
			return 0, net.ErrClosed
		}
		var answer bytes.Buffer
		_, terr := e.Read(&answer, tcpip.ReadOptions{})
		if _, wait := terr.(*tcpip.ErrWouldBlock); wait {
			continue
		}
		if terr != nil {
			return 0, fmt.Errorf("ping %v: %s", to, terr)
		}
		if b := answer.Bytes(); len(b) > size && bytes.Equal(b[size:], request[size:]) {
			return time.Since(began), nil
		}
		return 0, errors.New("ping: the answer is not that to what was asked")
	}
}
