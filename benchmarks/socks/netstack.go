package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

const mtu = 1420

// A wgPeer is a device and what it is known by.
type wgPeer struct {
	dev    *device.Device
	net    *netstack.Net
	public string // its key, as the device's protocol spells it
	addr   netip.Addr
}

func newPeer(addr netip.Addr) (*wgPeer, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t, stack, err := netstack.CreateNetTUN([]netip.Addr{addr}, nil, mtu)
	if err != nil {
		return nil, err
	}
	dev := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	if err := errors.Join(dev.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=0\n", key.Bytes())), dev.Up()); err != nil {
		dev.Close()
		return nil, err
	}
	return &wgPeer{dev, stack, hex.EncodeToString(key.PublicKey().Bytes()), addr}, nil
}

// knows adds a peer, and at which port it is.
func (p *wgPeer) knows(q *wgPeer) error {
	conf, err := q.dev.IpcGet()
	if err != nil {
		return err
	}
	for line := range strings.Lines(conf) {
		if port, ok := strings.CutPrefix(strings.TrimSpace(line), "listen_port="); ok {
			return p.dev.IpcSet(fmt.Sprintf("public_key=%s\nallowed_ip=%s/32\nendpoint=127.0.0.1:%s\n", q.public, q.addr, port))
		}
	}
	return errors.New("the device has no socket")
}

// startNetstack runs two devices of wireguard-go, each with a TCP of gvisor's.
func startNetstack() (*tunnel, error) {
	a, err := newPeer(netip.AddrFrom4([4]byte{10, 0, 0, 1}))
	if err != nil {
		return nil, err
	}
	b, err := newPeer(netip.AddrFrom4([4]byte{10, 0, 0, 2}))
	if err != nil {
		a.dev.Close()
		return nil, err
	}
	t := &tunnel{name: "wireguard-netstack", close: func() { a.dev.Close(); b.dev.Close() }}
	at := netip.AddrPortFrom(b.addr, 80)
	sink, err := b.net.ListenTCPAddrPort(at)
	if err = errors.Join(err, a.knows(b), b.knows(a)); err != nil {
		t.close()
		return nil, err
	}
	t.sink = sink
	t.dial = func(ctx context.Context) (net.Conn, error) { return a.net.DialContextTCPAddrPort(ctx, at) }
	return t, nil
}
