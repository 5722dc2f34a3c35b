package main

import (
	"encoding/json"
	"fmt"
	"net"

	"golang.org/x/net/proxy"
)

const (
	transfersAtOnce = 8  // by the network device, and as many by the proxy
	leastDrained    = 50 // transfers before the drain, and as many after it
)

// playDrain drains one of two relays while there are transfers: by the network device, and by SOCKS to a served port.
func playDrain(t *trial) error {
	w, err := newWorld(t, 2)
	if err != nil {
		return err
	}
	if err := w.meet("allow ann icmp,allow ann tcp 7000"); err != nil {
		return err
	}
	for _, addr := range []string{net.JoinHostPort(w.b.v4, "7000"), "127.0.0.1:7000"} {
		l, err := w.b.listen(addr)
		if err != nil {
			return err
		}
		defer l.Close()
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _ = answer(c) }() // the other end sees what goes wrong
			}
		}()
	}
	socks, err := w.serveAndProxy("7000", "80")
	if err != nil {
		return err
	}
	c := newCrowd(t, transfersAtOnce, map[string]proxy.Dialer{net.JoinHostPort(w.b.v4, "7000"): w.a.machine, "bob.mesh:80": socks})
	defer c.end()
	if err := c.more(t.ctx, leastDrained); err != nil {
		return err
	}
	victim, other := w.relays[0], w.relays[1]
	circuits, carried, err := victim.carried()
	if err != nil {
		return err
	}
	if circuits == 0 || carried == 0 {
		return fmt.Errorf("relay %s has nothing to lose: %d circuits, %d bytes", victim.name, circuits, carried)
	}
	t.say("relay %s, of %d circuits with %d MiB, is drained", victim.name, circuits, carried>>20)
	out, err := victim.output(t.meshrelay, "drain", "--json", "--config", "/dev/null", "--state", victim.state())
	if err != nil {
		return err
	}
	var d struct {
		Left    int     `json:"circuits_left"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		return err
	}
	<-victim.run.ended
	t.say("drained in %.1f s", d.Seconds)
	if err := c.more(t.ctx, leastDrained); err != nil {
		return err
	}
	if circuits, _, err := other.carried(); err != nil {
		return err
	} else if circuits == 0 {
		return fmt.Errorf("relay %s has no circuit", other.name)
	}
	c.end()
	t.atMost("DRAIN_FAILED", float64(c.failed.Load()), 0)
	t.atLeast("DRAIN_TRANSFERS", float64(c.done.Load()), 2*leastDrained)
	t.atMost("DRAIN_CIRCUITS_LEFT", float64(d.Left), 0)
	return nil
}

// serveAndProxy publishes a port of b's, under the other number, and returns the proxy by which a reaches it.
func (w *world) serveAndProxy(port, as string) (proxy.Dialer, error) {
	serve, err := w.b.start("serve", w.b.vpn("serve", port, "--as", as, "--allow", "ann")...)
	if err != nil {
		return nil, err
	}
	if _, err := serve.says(w.t.ctx, "tcp/"+as); err != nil {
		return nil, err
	}
	run, err := w.a.start("proxy", w.a.vpn("proxy")...)
	if err != nil {
		return nil, err
	}
	if _, err := run.says(w.t.ctx, "SOCKS5 proxy: "); err != nil {
		return nil, err
	}
	return proxy.SOCKS5("tcp", "127.0.0.1:1080", nil, w.a.machine)
}
