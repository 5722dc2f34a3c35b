package main

import "strings"

const (
	megabit  = 1e6 / 8 / 1e6 // in MB
	leastTCP = 100 * megabit // MB/s: what a connection is to have at least
	udpRate  = "100M"        // bits a second, in datagrams of udpSize
	udpSize  = "1200"
	mostLost = 1.0 // of UDP, in per cent
)

const vpnRules = "allow ann icmp,allow ann tcp 22,allow ann tcp " + iperfPort + ",allow ann udp " + iperfPort

// playVPN has the tools that people use go from a to b, which reach one relay and nothing else.
func playVPN(t *trial) error {
	w, err := newWorld(t, 1)
	if err != nil {
		return err
	}
	if err := w.meet(vpnRules); err != nil {
		return err
	}
	t.say("ping")
	lost, err := w.a.ping(w.b.v4, 50)
	if err != nil {
		return err
	}
	lost6, err := w.a.ping(w.b.v6, 50)
	if err != nil {
		return err
	}
	t.atMost("VPN_PING_LOST", float64(lost+lost6), 0)

	if err := w.b.serveIperf(w.b.v4); err != nil {
		return err
	}
	for _, way := range []struct {
		name string
		args []string
	}{{"OUT", nil}, {"BACK", []string{"--reverse"}}} {
		t.say("iperf3 %s", way.name)
		tcp, err := w.a.iperf(t.ctx, w.b.v4, t.span, way.args...)
		if err != nil {
			return err
		}
		t.atLeast("VPN_TCP_"+way.name+"_MB_S", tcp.rate(), leastTCP)
		udp, err := w.a.iperf(t.ctx, w.b.v4, t.span, append(way.args, "--udp", "--bitrate", udpRate, "--length", udpSize)...)
		if err != nil {
			return err
		}
		t.atMost("VPN_UDP_"+way.name+"_"+udpRate+"BIT_LOST_PERCENT", udp.lost(), mostLost)
	}

	for _, p := range []*peer{w.a, w.b} { // where UDP is lost, if it is
		s, err := p.status()
		if err != nil {
			return err
		}
		kernel, err := p.output("sh", "-c", "cat /sys/class/net/mesh0/statistics/tx_dropped; awk '/^Udp:/ { n = $6 } END { print n }' /proc/net/snmp")
		if err != nil {
			return err
		}
		f := strings.Fields(kernel)
		t.say("at %s meshvpn has dropped %v, its device's queue %s packets, and UDP sockets %s", p.name, s.Dropped, f[0], f[1:])
	}

	s, err := startSSH(w)
	if err != nil {
		return err
	}
	t.say("ssh, and scp of %d MiB", t.scpBytes>>20)
	ok, err := s.greets(w)
	if err != nil {
		return err
	}
	t.atLeast("VPN_SSH", float64(btoi(ok)), 1)
	p, err := newPayload(t, t.scpBytes)
	if err != nil {
		return err
	}
	rate, err := s.copy(t.ctx, p, 0)
	if err != nil {
		return err
	}
	if ok, err = p.intact(); err != nil {
		return err
	}
	t.atLeast("VPN_SCP_MB_S", rate, leastTCP)
	t.atLeast("VPN_SCP_INTACT", float64(btoi(ok)), 1)
	return nil
}
