package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
)

func tunMissing() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to make network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return err
	}
	_, err := exec.LookPath("ip")
	return err
}

// A namespace is a network namespace without a name: a thread that lives in it,
// and does there what it is told. Sockets stay in the namespace that they were
// made in, so that one process can have both ends. It is gone with the process.
type namespace struct {
	tid  int
	jobs chan func()
}

func newNamespace(w *world) (*namespace, error) {
	ns := &namespace{jobs: make(chan func())}
	made := make(chan error, 1)
	go func() { // ends with the world
		runtime.LockOSThread() // for good: the thread is not one for others
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		ns.tid = unix.Gettid()
		made <- nil
		for {
			select {
			case job := <-ns.jobs:
				job()
			case <-w.closed:
				return
			}
		}
	}()
	return ns, <-made
}

// do runs f in the namespace and waits for it.
func (ns *namespace) do(f func() error) error {
	done := make(chan error, 1)
	ns.jobs <- func() { done <- f() }
	return <-done
}

func (ns *namespace) ip(args ...string) error {
	return ns.do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
		return nil
	})
}

// A nsBind opens its sockets in the namespace, whichever goroutine asks for it.
type nsBind struct {
	conn.Bind
	ns *namespace
}

func (b nsBind) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	err = b.ns.do(func() (err error) {
		fns, actual, err = b.Bind.Open(port)
		return err
	})
	return fns, actual, err
}

// startTUN builds
//
//	client ─ TUN ─ wireguard ─ veth ═ veth ─ wireguard ─ TUN ─ server
//	10.1.0.2                192.0.2.2  192.0.2.1            10.1.0.1
//
// with a namespace on each side of the pair. All its clients are one: the
// tunnel is made anew for each.
func startTUN(context.Context, gateway) (_ *world, err error) {
	w := newWorld()
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	left, err := newNamespace(w)
	if err != nil {
		return nil, err
	}
	right, err := newNamespace(w)
	if err != nil {
		return nil, err
	}
	if err := left.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", strconv.Itoa(right.tid)); err != nil {
		return nil, err
	}
	for i, ns := range []*namespace{right, left} {
		if err := ns.ip("addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "veth0"); err != nil {
			return nil, err
		}
		if err := ns.ip("link", "set", "veth0", "up"); err != nil {
			return nil, err
		}
	}
	server, err := tunPeer(w, right, netip.AddrFrom4([4]byte{10, 1, 0, 1}))
	if err != nil {
		return nil, err
	}
	w.onClose(server.dev.Close)
	var l net.Listener
	at := netip.AddrPortFrom(server.addr, wireguardPort).String()
	if err := right.do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		return nil, err
	}
	w.onClose(func() { l.Close() })
	accept(w, l.Accept)
	port, err := server.port()
	if err != nil {
		return nil, err
	}
	var alone sync.Mutex // held by the client that lives
	w.client = func(context.Context) (client, error) {
		alone.Lock()
		c, err := tunPeer(w, left, netip.AddrFrom4([4]byte{10, 1, 0, 2}))
		if err == nil {
			err = errors.Join(server.dev.IpcSet("replace_peers=true\n"), server.knows(c, ""), c.knows(server, "192.0.2.1:"+port))
		}
		if err != nil {
			alone.Unlock()
			return client{}, err
		}
		return client{
			open: func(ctx context.Context) (s stream, err error) {
				err = left.do(func() (err error) { s, err = new(net.Dialer).DialContext(ctx, "tcp", at); return err })
				return s, err
			},
			close: func() { c.dev.Close(); alone.Unlock() },
		}, nil
	}
	return w, nil
}

// tunPeer starts a device whose TUN and whose socket are in the namespace.
func tunPeer(w *world, ns *namespace, addr netip.Addr) (*wgPeer, error) {
	var t tun.Device
	err := ns.do(func() (err error) { t, err = tun.CreateTUN("wg0", wireguardMTU); return err })
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ns.ip("addr", "add", addr.String()+"/24", "dev", "wg0"), ns.ip("link", "set", "wg0", "up")); err != nil {
		t.Close()
		return nil, err
	}
	return newPeer(t, nsBind{conn.NewStdNetBind(), ns}, addr, 0)
}
