package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// ping sends n echo requests, one after the other, and returns how many were not answered.
func (m *machine) ping(addr string, n int) (lost int, err error) {
	network, ask, answer := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	if strings.Contains(addr, ":") {
		network, ask, answer = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := m.Dial(network, addr)
	if err != nil {
		return n, nil // there is no way
	}
	defer c.Close()
	for i := range n {
		b, err := (&icmp.Message{Type: ask, Body: &icmp.Echo{ID: 77, Seq: i, Data: make([]byte, 56)}}).Marshal(nil)
		if err != nil {
			return n, err
		}
		if _, err := c.Write(b); err != nil || !answered(c, answer, i) {
			lost++
		}
	}
	return lost, nil
}

// answered waits for one answer.
func answered(c net.Conn, answer icmp.Type, seq int) bool {
	if c.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	for b := make([]byte, 1500); ; {
		n, _, err := c.(net.PacketConn).ReadFrom(b) // which takes the header of IPv4 away
		if err != nil {
			return false
		}
		got, err := icmp.ParseMessage(answer.Protocol(), b[:n])
		if err == nil && got.Type == answer && got.Body.(*icmp.Echo).Seq == seq {
			return true
		}
	}
}

// iperfPort is where iperf3 serves.
const iperfPort = "5201"

// serveIperf has iperf3 serve at an address of the machine.
func (m *machine) serveIperf(addr string) error {
	p, err := m.start("iperf3", "iperf3", "--server", "--bind", addr, "--port", iperfPort)
	if err != nil {
		return err
	}
	p.lax = true
	return until(m.t.ctx, 10*time.Second, "iperf3 serves", func() error {
		out, err := m.output("ss", "-Hltn", "sport", "=", ":"+iperfPort)
		if err == nil && out == "" {
			err = errors.New("nobody listens")
		}
		return err
	})
}

// An iperf is what iperf3 --json says in the end.
type iperf struct {
	Intervals []struct {
		Sum struct {
			Start, End float64
			Bytes      uint64
		}
	}
	End struct {
		Received struct {
			Bytes uint64
			Rate  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sum struct {
			Packets int64
			Lost    int64 `json:"lost_packets"`
		}
	}
	Error string
}

// iperf runs iperf3 to who serves there.
func (m *machine) iperf(ctx context.Context, addr string, span time.Duration, more ...string) (r iperf, err error) {
	c := m.command(ctx, append([]string{"iperf3", "--client", addr, "--port", iperfPort, "--json", "--time", fmt.Sprintf("%.0f", span.Seconds())}, more...)...)
	out, err := output(c)
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr == nil && r.Error != "" {
		err = fmt.Errorf("iperf3: %s", r.Error)
	} else if err == nil {
		err = jsonErr
	}
	return r, err
}

// rate is that of TCP, in MB/s.
func (r *iperf) rate() float64 { return r.End.Received.Rate / 8e6 }

// lost is how much of UDP was, in per cent.
func (r *iperf) lost() float64 {
	if r.End.Sum.Packets == 0 {
		return 100
	}
	return 100 * float64(r.End.Sum.Lost) / float64(r.End.Sum.Packets)
}

// gap is the longest time in which nothing came, as the receiver saw it, in seconds.
func (r *iperf) gap() (longest float64) {
	now := 0.0
	for _, i := range r.Intervals {
		if now += i.Sum.End - i.Sum.Start; i.Sum.Bytes > 0 {
			now = 0
		}
		longest = max(longest, now)
	}
	return longest
}
