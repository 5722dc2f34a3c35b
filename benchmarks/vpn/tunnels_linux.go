package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

const relayAddr = "/ip4/0.0.0.0/tcp/4001/ws"

func relayKey() (*identity.Key, error) {
	return identity.NewKeyFromSeed(bytes.Repeat([]byte{7}, identity.SeedSize))
}

// relay relays until it is told to end.
func relay() error {
	listen, err := transport.Parse(relayAddr)
	if err != nil {
		return err
	}
	key, err := relayKey()
	if err != nil {
		return err
	}
	n := &mesh.Node{Identity: key, ListenAddrs: []multiaddr.Multiaddr{listen}, Relay: new(mesh.RelayConfig)}
	defer n.Close()
	if err := n.Start(context.Background()); err != nil {
		return err
	}
	interrupted()
	return nil
}

// startMesh starts meshvpn at both ends, and the relay between them.
func (w *world) startMesh(way string, o *options) (_ *tunnel, err error) {
	t := &tunnel{name: "meshvpn"}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stop())
		}
	}()
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	key, err := relayKey()
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{w.a: filepath.Join(w.dir, way+"-a"), w.b: filepath.Join(w.dir, way+"-b")}
	up := func(ns string, more ...string) error {
		return t.start(ns, "", append([]string{o.meshvpn, "up", "--state", dirs[ns], "--node.dht=false", "--dns=off", "--log.level=warn", "--tun.mtu=" + strconv.Itoa(o.mtu)}, more...)...)
	}
	switch way {
	case "direct":
		if err := up(w.b, "--rules=allow * tcp", "--node.listen=/ip4/10.9.3.2/tcp/4001/ws"); err != nil {
			return nil, err
		}
		b, _, err := address(o.meshvpn, dirs[w.b])
		if err == nil {
			err = up(w.a, "--node.bootstrap=/ip4/10.9.3.2/tcp/4001/ws/p2p/"+b.PeerID())
		}
		if err != nil {
			return nil, err
		}
	case "relayed", "routed":
		err := errors.Join(
			t.start(w.r, "", exe, "-role", "relay"),
			up(w.a, "--node.bootstrap=/ip4/10.9.1.1/tcp/4001/ws/p2p/"+key.ID().PeerID()),
			up(w.b, "--rules=allow * tcp", "--node.bootstrap=/ip4/10.9.2.1/tcp/4001/ws/p2p/"+key.ID().PeerID()))
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no way is called %q", way)
	}
	ids := make(map[string]identity.ID)
	for ns, dir := range dirs {
		if ids[ns], t.addr, err = address(o.meshvpn, dir); err != nil {
			return nil, err
		}
	}
	if _, t.addr, err = address(o.meshvpn, dirs[w.b]); err != nil {
		return nil, err
	}
	return t, errors.Join(
		os.WriteFile(filepath.Join(dirs[w.a], "hosts"), []byte(ids[w.b].String()+" bob\n"), 0o600),
		os.WriteFile(filepath.Join(dirs[w.b], "hosts"), []byte(ids[w.a].String()+" ann\n"), 0o600))
}

// address asks a meshvpn who it is and where.
func address(program, dir string) (id identity.ID, addr string, err error) {
	err = until(10*time.Second, func() error {
		out, err := exec.Command(program, "status", "--json", "--state", dir).Output()
		if err != nil {
			return err
		}
		var s struct {
			ID   identity.ID `json:"id"`
			IPv4 string      `json:"ipv4"`
		}
		err = json.Unmarshal(out, &s)
		id, addr = s.ID, s.IPv4
		return err
	})
	return id, addr, err
}

// startWireguard starts wireguard-go at both ends, and where they meet.
func (w *world) startWireguard(way string, o *options) (_ *tunnel, err error) {
	t := &tunnel{name: "wireguard-go", addr: "10.10.0.2"}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.stop())
		}
	}()
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	start := func(ns, addr string, key *ecdh.PrivateKey, peers ...string) error {
		conf := fmt.Sprintf("private_key=%x\nlisten_port=51820\n%s", key.Bytes(), strings.Join(peers, ""))
		if err := t.start(ns, conf, exe, "-role", "wireguard", "-mtu", strconv.Itoa(o.mtu)); err != nil {
			return err
		}
		err := until(10*time.Second, func() error { return ip("-n", ns, "addr", "add", addr+"/24", "dev", "wg0") })
		if err != nil {
			return err
		}
		return ip("-n", ns, "link", "set", "wg0", "up")
	}
	var keys [3]*ecdh.PrivateKey
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
	}
	a, b, r := keys[0], keys[1], keys[2]
	peer := func(key *ecdh.PrivateKey, allowed, at string) string {
		return fmt.Sprintf("public_key=%x\nallowed_ip=%s\nendpoint=%s:51820\n", key.PublicKey().Bytes(), allowed, at)
	}
	const addrA, addrR = "10.10.0.1", "10.10.0.3"
	switch way {
	case "direct":
		err = errors.Join(start(w.a, addrA, a, peer(b, t.addr+"/32", "10.9.3.2")), start(w.b, t.addr, b, peer(a, addrA+"/32", "10.9.3.1")))
	case "routed":
		err = errors.Join(start(w.a, addrA, a, peer(b, t.addr+"/32", "10.9.2.2")), start(w.b, t.addr, b, peer(a, addrA+"/32", "10.9.1.2")))
	case "relayed": // what a sends to b is for r, which opens it and sends it on
		err = errors.Join(
			start(w.a, addrA, a, peer(r, "10.10.0.0/24", "10.9.1.1")), start(w.b, t.addr, b, peer(r, "10.10.0.0/24", "10.9.2.1")),
			start(w.r, addrR, r, peer(a, addrA+"/32", "10.9.1.2"), peer(b, t.addr+"/32", "10.9.2.2")))
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// wireguard carries packets as the configuration at its input says, until it is told to end.
func wireguard(mtu int) error {
	conf, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	t, err := tun.CreateTUN("wg0", mtu)
	if err != nil {
		return err
	}
	d := device.NewDevice(t, conn.NewStdNetBind(), device.NewLogger(device.LogLevelError, ""))
	defer d.Close()
	if err := errors.Join(d.IpcSet(string(conf)), d.Up()); err != nil {
		return err
	}
	interrupted()
	return nil
}
