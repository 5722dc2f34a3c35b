package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// A world is peers a and b, and relays that each of them reaches by a cable of its own.
type world struct {
	t      *trial
	a, b   *peer
	relays []*relay
}

// A relay is a machine with a meshrelay.
type relay struct {
	*machine
	run  *process
	boot string // its address, for the peers' bootstrap
}

// A peer is a machine with, maybe, a meshvpn that is up.
type peer struct {
	*machine
	id     identity.ID
	v4, v6 string
	up     *process
}

// hosts are the relays' addresses, each of a network of its own (RFC 5737).
var hosts = []string{"192.0.2.1", "198.51.100.1", "203.0.113.1"}

// newWorld makes the machines and starts n relays.
func newWorld(t *trial, n int) (w *world, err error) {
	w = &world{t: t, a: new(peer), b: new(peer)}
	t.w = w
	if w.a.machine, err = newMachine(t, "a"); err != nil {
		return w, err
	}
	if w.b.machine, err = newMachine(t, "b"); err != nil {
		return w, err
	}
	for i := range n {
		r := &relay{}
		if r.machine, err = newMachine(t, string(rune('r'+i))); err != nil {
			return w, err
		}
		w.relays = append(w.relays, r)
		if err := errors.Join(cable(w.a.machine, r.machine, 2*i+1), cable(w.b.machine, r.machine, 2*i+2), r.ip("addr add "+hosts[i]+"/32 dev lo")); err != nil {
			return w, err
		}
		for k, p := range []*peer{w.a, w.b} {
			if err := p.ip(fmt.Sprintf("route add %s via 10.9.%d.2", hosts[i], 2*i+1+k)); err != nil {
				return w, err
			}
		}
		if err := r.start(hosts[i]); err != nil {
			return w, err
		}
	}
	return w, w.apart()
}

// cable joins two machines: 10.9.N.1 and 10.9.N.2.
func cable(from, to *machine, n int) error {
	dev := fmt.Sprint("cable", n)
	return errors.Join(
		from.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s\naddr add 10.9.%d.1/24 dev %s\nlink set %s up", dev, dev, to.name, n, dev, dev)),
		to.ip(fmt.Sprintf("addr add 10.9.%d.2/24 dev %s\nlink set %s up", n, dev, dev)))
}

// apart has the peers send everything to the first relay, and makes sure that this doesn't lead to each other.
func (w *world) apart() error {
	if err := errors.Join(w.a.ip("route add default via 10.9.1.2"), w.b.ip("route add default via 10.9.2.2")); err != nil {
		return err
	}
	for from, addr := range map[*peer]string{w.a: "10.9.2.1", w.b: "10.9.1.1"} {
		if lost, err := from.ping(addr, 1); err != nil {
			return err
		} else if lost == 0 {
			return fmt.Errorf("%s reaches %s without a mesh", from.name, addr)
		}
	}
	return nil
}

// start starts the relay, at a host that it has.
func (r *relay) start(host string) (err error) {
	r.run, err = r.machine.start("relay", r.t.meshrelay, "run", "--config", os.DevNull, "--state", r.state(), "--node.listen=/ip4/"+host+"/tcp/4001/ws")
	if err != nil {
		return err
	}
	var s struct {
		Addrs []string `json:"addrs"`
	}
	err = until(r.t.ctx, 30*time.Second, "the relay comes up", func() error { return r.asks(&s, "status") })
	if err == nil && len(s.Addrs) != 1 {
		err = fmt.Errorf("the relay is at %v", s.Addrs)
	}
	if err == nil {
		r.boot = s.Addrs[0]
	}
	return err
}

// state is the state directory of what runs on the machine.
func (m *machine) state() string { return filepath.Join(m.dir, "state") }

// asks asks the relay that runs.
func (r *relay) asks(v any, what string) error {
	out, err := r.output(r.t.meshrelay, what, "--json", "--config", os.DevNull, "--state", r.state())
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// carried is how many circuits the relay has, and the bytes that these have carried.
func (r *relay) carried() (circuits int, bytes uint64, err error) {
	var all []struct{ Bytes uint64 }
	err = r.asks(&all, "circuits")
	for _, c := range all {
		bytes += c.Bytes
	}
	return len(all), bytes, err
}

// vpn are the arguments of a command of meshvpn.
func (p *peer) vpn(args ...string) []string {
	return append(append([]string{p.t.meshvpn}, args...), "--config", os.DevNull, "--state", p.state())
}

// begin has meshvpn be up.
func (p *peer) begin(args ...string) (err error) {
	if p.up, err = p.start("up", p.vpn(append([]string{"up", "--dns=serve"}, args...)...)...); err != nil {
		return err
	}
	return until(p.t.ctx, 30*time.Second, p.name+" comes up", func() error {
		s, err := p.status()
		p.id, p.v4, p.v6 = s.ID, s.IPv4, s.IPv6
		return err
	})
}

// vpnStatus is what meshvpn status --json says.
type vpnStatus struct {
	ID    identity.ID `json:"id"`
	IPv4  string      `json:"ipv4"`
	IPv6  string      `json:"ipv6"`
	Peers []struct {
		ID    identity.ID `json:"id"`
		Paths []struct {
			Relay identity.ID // zero: it is direct
		} `json:"paths"`
	} `json:"peers"`
	Dropped map[string]uint64 `json:"dropped"` // packets, by reason
}

func (p *peer) status() (s vpnStatus, err error) {
	out, err := p.output(p.vpn("status", "--json")...)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// meet has both be up and know each other, by an invitation of b's, which is called bob. What a may do there is the rules'.
func (w *world) meet(rules string, more ...string) error {
	var boot []string
	for _, r := range w.relays {
		boot = append(boot, r.boot)
	}
	bootstrap := "--node.bootstrap=" + strings.Join(boot, ",")
	if err := w.b.begin(append([]string{bootstrap, "--rules=" + rules}, more...)...); err != nil {
		return err
	}
	invite, err := w.b.start("invite", w.b.vpn("invite", "--for", "ann", "--node.name", "bob")...)
	if err != nil {
		return err
	}
	text, err := invite.says(w.t.ctx, "\n")
	if err != nil {
		return err
	}
	c := w.a.command(w.t.ctx, w.a.vpn("join", "--node.name", "ann")...)
	c.Stdin = strings.NewReader(text)
	if _, err := output(c); err != nil {
		return err
	}
	if err := w.a.begin(more...); err != nil { // the invitation has said where the relays are
		return err
	}
	return until(w.t.ctx, 30*time.Second, "a reaches b", func() error {
		_, err := w.a.output(w.a.vpn("ping", "bob", "-c", "1")...)
		return err
	})
}

func (w *world) close() (err error) {
	all := []*machine{w.a.machine, w.b.machine}
	for _, r := range w.relays {
		all = append(all, r.machine)
	}
	for _, m := range all {
		if m != nil {
			err = errors.Join(err, m.close())
		}
	}
	return err
}
