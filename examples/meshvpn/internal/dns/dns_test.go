package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var local = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// serve has f answer at a socket until the test ends.
func serve(t *testing.T, run func(ctx context.Context, s Socket) error) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, Socket{c, l}) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func (r *Resolver) run(ctx context.Context, s Socket) error { return r.Serve(ctx, []Socket{s}) }

// resolver knows ann, who has both addresses, and bob, who has one.
func resolver() *Resolver {
	return &Resolver{Clients: []netip.Addr{local}, Logger: slog.New(slog.DiscardHandler), Resolve: func(_ context.Context, name string) (v4, v6 netip.Addr, err error) {
		switch name {
		case "ann":
			return netip.MustParseAddr("100.64.1.1"), netip.MustParseAddr("fd77::1"), nil
		case "bob":
			return netip.Addr{}, netip.MustParseAddr("fd77::2"), nil
		case "down":
			return v4, v6, errors.New("the directory is down")
		}
		return v4, v6, fmt.Errorf("%s: %w", name, ErrNoName)
	}}
}

// TestAnswers: names of the mesh are answered for, others are asked for elsewhere, and only by who may.
func TestAnswers(t *testing.T) {
	// The upstream says 192.0.2.1 for everything, and that it was asked.
	up := serve(t, func(ctx context.Context, s Socket) error {
		server := &dns.Server{PacketConn: s.UDP, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			a := new(dns.Msg).SetReply(q)
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
			_ = w.WriteMsg(a)
		})}
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		<-ctx.Done()
		s.TCP.Close()
		return errors.Join(server.Shutdown(), <-ended)
	})
	with := resolver()
	with.Upstreams = func() []netip.AddrPort { return []netip.AddrPort{up} }
	strangers := resolver()
	strangers.Clients = nil
	without := resolver()
	asked := make(map[*Resolver]netip.AddrPort)
	for _, r := range []*Resolver{with, without, strangers} {
		asked[r] = serve(t, r.run)
	}
	for _, tt := range []struct {
		r    *Resolver
		name string
		kind uint16
		code int
		want string
	}{
		{with, "ann.mesh.", dns.TypeA, dns.RcodeSuccess, "100.64.1.1"},
		{with, "Ann.MESH.", dns.TypeAAAA, dns.RcodeSuccess, "fd77::1"},
		{with, "bob.mesh.", dns.TypeAAAA, dns.RcodeSuccess, "fd77::2"},
		{with, "bob.mesh.", dns.TypeA, dns.RcodeSuccess, ""},
		{with, "ann.mesh.", dns.TypeMX, dns.RcodeSuccess, ""},
		{with, "eve.mesh.", dns.TypeA, dns.RcodeNameError, ""},
		{with, "www.ann.mesh.", dns.TypeA, dns.RcodeNameError, ""},
		{with, "mesh.", dns.TypeA, dns.RcodeNameError, ""},
		{with, "down.mesh.", dns.TypeA, dns.RcodeServerFailure, ""},
		{with, "annmesh.", dns.TypeA, dns.RcodeSuccess, "192.0.2.1"},
		{with, "example.org.", dns.TypeA, dns.RcodeSuccess, "192.0.2.1"},
		{without, "example.org.", dns.TypeA, dns.RcodeRefused, ""},
		{without, "ann.mesh.", dns.TypeA, dns.RcodeSuccess, "100.64.1.1"},
		{strangers, "ann.mesh.", dns.TypeA, dns.RcodeRefused, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if network == "tcp" && tt.want == "192.0.2.1" {
				continue // the upstream has UDP alone
			}
			c := &dns.Client{Net: network, Timeout: 10 * time.Second}
			q := new(dns.Msg).SetQuestion(tt.name, tt.kind)
			if network == "udp" {
				q.SetEdns0(1232, false)
			}
			a, _, err := c.Exchange(q, asked[tt.r].String())
			if err != nil {
				t.Errorf("%s %s: %v", network, tt.name, err)
				continue
			}
			if (a.IsEdns0() != nil) != (network == "udp") {
				t.Errorf("%s %s: EDNS is not answered with EDNS", network, tt.name)
			}
			got := ""
			for _, rr := range a.Answer {
				got = strings.Fields(rr.String())[4]
			}
			if a.Rcode != tt.code || got != tt.want {
				t.Errorf("%s %s: %s %q, want %s %q", network, tt.name, dns.RcodeToString[a.Rcode], got, dns.RcodeToString[tt.code], tt.want)
			}
		}
	}
}
