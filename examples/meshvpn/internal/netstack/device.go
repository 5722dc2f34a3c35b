package netstack

import (
	"encoding/binary"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A device is a Stack with a virtio header before each packet (struct virtio_net_hdr), so that checksums and cutting into
// segments are left undone where they are not needed.
type device struct{ *Stack }

// Device makes a stack, and the same as a device of packets behind virtio headers.
func Device(cfg Config) (*Stack, io.ReadWriteCloser, error) {
	s, err := start(cfg, true)
	return s, device{s}, err
}

const (
	vnetSize      = 10
	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	gsoTCPv4      = 1
	gsoTCPv6      = 4
)

func (d device) Read(p []byte) (int, error) {
	if len(p) < vnetSize {
		return 0, io.ErrShortBuffer
	}
	n, gso, err := d.read(p[vnetSize:])
	if err != nil {
		return 0, err
	}
	h := p[:vnetSize]
	clear(h)
	if gso.NeedsCsum {
		h[0] = needsChecksum
		binary.NativeEndian.PutUint16(h[6:], gso.L3HdrLen)
		binary.NativeEndian.PutUint16(h[8:], gso.CsumOffset)
	}
	switch {
	case gso.MSS == 0 || n <= int(gso.L3HdrLen)+int(gso.MSS):
	case gso.Type == stack.GSOTCPv4:
		h[1] = gsoTCPv4
	case gso.Type == stack.GSOTCPv6:
		h[1] = gsoTCPv6
	}
	if h[1] != 0 {
		binary.NativeEndian.PutUint16(h[2:], gso.L3HdrLen+uint16(p[vnetSize+int(gso.L3HdrLen)+12]>>4)*4) // and TCP's
		binary.NativeEndian.PutUint16(h[4:], gso.MSS)
	}
	return vnetSize + n, nil
}

func (d device) Write(p []byte) (int, error) {
	if len(p) <= vnetSize {
		return 0, ErrPacket
	}
	return len(p), d.WritePacket(p[vnetSize:]) // one that was not cut into segments is as good as those
}
