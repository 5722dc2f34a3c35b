package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
)

// reloadable are the settings that SIGHUP changes. The files of names are read again whenever they change.
var reloadable = []string{"rules", "networks", "log.level"}

// heed reads the settings again at each signal, until ctx ends.
func (t *tunnel) heed(ctx context.Context, a *program.App, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := t.reload(a); err != nil {
				t.log.Error("nothing reloaded: the settings in use stay", "err", err)
			}
		}
	}
}

// reload has rules and networks be what the settings say now: all of them, or none.
func (t *tunnel) reload(a *program.App) error {
	fresh := defaults()
	changed, err := a.Reload(fresh)
	if err != nil {
		return err
	}
	fresh.TUN = t.settings.TUN
	if err := t.device.Route(fresh.nets()); err != nil {
		if again := t.device.Route(t.settings.nets()); again != nil {
			t.log.Error("some networks are not routed", "err", again)
		}
		return err
	}
	t.engine.Set(fresh.policy())
	t.settings.Rules, t.settings.Networks = fresh.Rules, fresh.Networks
	a.SetLevel(fresh.Log.Level)
	t.log.Info("settings read again", "rules", len(fresh.Rules), "networks", len(fresh.Networks))
	for _, path := range changed {
		if !slices.Contains(reloadable, path) {
			t.log.Warn("this setting has changed, and counts from the next start on", "setting", path)
		}
	}
	fresh.warn(t)
	return nil
}

// warn tells of what may be meant otherwise than it is.
func (s *settings) warn(t *tunnel) {
	if err := t.node.Hosts.Err(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.log.Warn("the file hosts is not right: what it said before counts, if anything", "err", err)
	}
	nobody := func(p acl.Peer) bool {
		_, known := p.ID(t.node.Hosts.Petname)
		return !known && !p.Everyone()
	}
	for _, r := range s.Rules {
		if nobody(r.Peer()) {
			t.log.Warn("nobody here has the name in this rule, so it is about nobody: see the file hosts", "rule", r)
		}
	}
	everything := make(map[bool]bool) // whether IPv4 or else IPv6 all goes by a peer
	for _, g := range s.Networks {
		if nobody(g.Peer) {
			t.log.Warn("nobody here has the name in this grant, so the network is nobody's: see the file hosts", "network", g)
		}
		if g.Via && g.Prefix.Bits() == 0 {
			everything[g.Prefix.Addr().Is4()] = true
		}
	}
	if strict := t.device.Strict(); everything[true] && len(strict) > 0 {
		t.log.Warn("the kernel drops what relays and peers send to this node: set sysctl net.ipv4.conf.DEVICE.rp_filter=2, and that of all if it is 1", "devices", strict)
	}
	if everything[true] && !everything[false] {
		t.log.Warn("IPv4 goes by a peer, and IPv6 as ever, in the sight of the local network: route ::/0, too, or disable it")
	}
	if everything[false] && !everything[true] {
		t.log.Warn("IPv6 goes by a peer, and IPv4 as ever, in the sight of the local network: route 0.0.0.0/0, too")
	}
	if !s.TUN.IPv4 {
		return
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && overlay.Net4.Contains(p.Addr()) && !slices.Contains(t.device.Addrs(), p.Addr()) {
			t.log.Warn("another network here has addresses like those of peers: do without by --tun.ipv4=false if some are not reached", "network", p)
		}
	}
}
