package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

// wireguard-go, with a TCP of its own (gvisor's), or with the kernel's above a TUN
// device. A stream is a TCP connection in the tunnel.
var wireguardSystems = []system{
	{name: "wireguard-netstack", about: "wireguard-go over netstack, MTU 1420", udp: true, start: startNetstack},
	{
		name: "wireguard-tun", about: "wireguard-go over TUN devices in two network namespaces, MTU 1420",
		udp: true, missing: tunMissing, start: startTUN,
	},
}

const (
	wireguardMTU  = 1420
	wireguardPort = 7
)

// A wgPeer is a device and what it is known by.
type wgPeer struct {
	dev    *device.Device
	public string // its key, as the device's protocol spells it
	addr   netip.Addr
}

// newPeer starts a device, and returns it without peers.
func newPeer(t tun.Device, bind conn.Bind, addr netip.Addr, port int) (*wgPeer, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	dev := device.NewDevice(t, bind, device.NewLogger(device.LogLevelSilent, ""))
	p := &wgPeer{dev, hex.EncodeToString(key.PublicKey().Bytes()), addr}
	if err := dev.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=%d\n", key.Bytes(), port)); err != nil {
		dev.Close()
		return nil, err
	}
	if err := dev.Up(); err != nil {
		dev.Close()
		return nil, err
	}
	return p, nil
}

// knows adds a peer, and where it is unless that is empty.
func (p *wgPeer) knows(q *wgPeer, endpoint string) error {
	conf := fmt.Sprintf("public_key=%s\nallowed_ip=%s/32\n", q.public, q.addr)
	if endpoint != "" {
		conf += "endpoint=" + endpoint + "\n"
	}
	return p.dev.IpcSet(conf)
}

// port is where the device's socket is.
func (p *wgPeer) port() (string, error) {
	conf, err := p.dev.IpcGet()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(conf) {
		if port, ok := strings.CutPrefix(line, "listen_port="); ok {
			return strings.TrimSpace(port), nil
		}
	}
	return "", fmt.Errorf("the device has no socket")
}

func startNetstack(context.Context, gateway) (*world, error) {
	w := newWorld()
	first := netip.AddrFrom4([4]byte{10, 0, 0, 1})
	t, stack, err := netstack.CreateNetTUN([]netip.Addr{first}, nil, wireguardMTU)
	if err != nil {
		return nil, err
	}
	server, err := newPeer(t, conn.NewDefaultBind(), first, 0)
	if err != nil {
		return nil, err
	}
	w.onClose(server.dev.Close)
	port, err := server.port()
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(first, wireguardPort)
	l, err := stack.ListenTCPAddrPort(at)
	if err != nil {
		return nil, err
	}
	accept(w, l.Accept)

	var mu sync.Mutex // guards last
	last := first
	w.client = func(context.Context) (client, error) {
		mu.Lock()
		last = last.Next()
		mine := last
		mu.Unlock()
		t, stack, err := netstack.CreateNetTUN([]netip.Addr{mine}, nil, wireguardMTU)
		if err != nil {
			return client{}, err
		}
		c, err := newPeer(t, conn.NewDefaultBind(), mine, 0)
		if err != nil {
			return client{}, err
		}
		if err := server.knows(c, ""); err != nil {
			return client{}, err
		}
		if err := c.knows(server, "127.0.0.1:"+port); err != nil {
			return client{}, err
		}
		return client{
			open:  func(ctx context.Context) (stream, error) { return stack.DialContextTCPAddrPort(ctx, at) },
			close: c.dev.Close,
		}, nil
	}
	return w, nil
}
