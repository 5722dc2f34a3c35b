package netstack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/netstack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	v4 = [2]netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")}
	v6 = [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wire carries what each of two reads to the other.
func wire(t *testing.T, read, write [2]func([]byte) (int, error), end func()) {
	var running sync.WaitGroup
	for i := range 2 {
		running.Go(func() {
			for buf := make([]byte, 1<<17); ; {
				n, err := read[i](buf)
				if err != nil {
					return
				}
				if _, err := write[1-i](buf[:n]); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	t.Cleanup(func() {
		end()
		running.Wait()
	})
}

// pair is two stacks, each of which gets what the other sends: as packets, or as devices with virtio headers.
func pair(t *testing.T, devices bool) (out [2]*netstack.Stack) {
	t.Helper()
	var read, write [2]func([]byte) (int, error)
	for i := range out {
		cfg := netstack.Config{Addrs: []netip.Addr{v4[i], v6[i]}}
		if devices {
			s, d, err := netstack.Device(cfg)
			if err != nil {
				t.Fatal(err)
			}
			out[i], read[i], write[i] = s, d.Read, d.Write
			continue
		}
		s, err := netstack.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		out[i], read[i], write[i] = s, s.ReadPacket, func(p []byte) (int, error) { return len(p), s.WritePacket(p) }
	}
	wire(t, read, write, func() {
		for _, s := range out {
			s.Close()
		}
	})
	return out
}

func each(t *testing.T, f func(t *testing.T, s [2]*netstack.Stack, to netip.Addr)) {
	for name, devices := range map[string]bool{"packets": false, "device": true} {
		for _, to := range []netip.Addr{v4[1], v6[1]} {
			t.Run(name+" "+to.String(), func(t *testing.T) { f(t, pair(t, devices), to) })
		}
	}
}

// TestTCP sends megabytes both ways, each end of which comes by itself.
func TestTCP(t *testing.T) {
	each(t, func(t *testing.T, s [2]*netstack.Stack, to netip.Addr) {
		at := netip.AddrPortFrom(to, 80)
		l, err := s[1].ListenTCP(at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		echoed := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				echoed <- err
				return
			}
			defer c.Close()
			all, err := io.ReadAll(c) // ends when our direction does
			if err == nil {
				_, err = c.Write(all)
			}
			echoed <- err
		}()
		c, err := s[0].DialTCP(within(t), at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sent := make([]byte, 3<<20)
		rand.NewChaCha8([32]byte{}).Read(sent)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err = errors.Join(err, <-echoed); err != nil || !bytes.Equal(got, sent) {
			t.Fatal(len(got), err)
		}
		if _, err := s[0].DialTCP(within(t), netip.AddrPortFrom(to, 81)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error("a port that nobody listens on:", err)
		}
	})
}

func TestUDP(t *testing.T) {
	each(t, func(t *testing.T, s [2]*netstack.Stack, to netip.Addr) {
		l, err := s[1].ListenUDP(netip.AddrPortFrom(to, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := s[0].DialUDP(netip.AddrPortFrom(to, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, from, err := l.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "question" {
			t.Fatal(string(buf[:n]), err)
		}
		if _, err := l.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if n, err = c.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Fatal(string(buf[:n]), err)
		}
	})
}

func TestPing(t *testing.T) {
	each(t, func(t *testing.T, s [2]*netstack.Stack, to netip.Addr) {
		took, err := s[0].Ping(within(t), to)
		if err != nil || took <= 0 {
			t.Fatal(took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := s[0].Ping(ctx, netip.MustParseAddr("100.64.0.9")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("nobody answers:", err)
		}
	})
}

func TestClosed(t *testing.T) {
	s, err := netstack.New(netstack.Config{Addrs: v4[:1]})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() { _, err := s.ReadPacket(make([]byte, 2000)); waiting <- err }()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := s.WritePacket([]byte{0x45}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	for _, cfg := range []netstack.Config{{}, {Addrs: v4[:1], MTU: 1000}, {Addrs: []netip.Addr{{}}}} {
		if _, err := netstack.New(cfg); err == nil {
			t.Error(cfg)
		}
	}
}

// FuzzWritePacket: nothing that comes brings it down, or makes it send without end.
func FuzzWritePacket(f *testing.F) {
	f.Add([]byte{0x45})
	f.Add([]byte("E\x00\x00\x1c\x00\x00\x00\x00@\x01\x00\x00d@\x00\x02d@\x00\x01\x08\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(append([]byte("`\x00\x00\x00\x00\x08:@"), make([]byte, 40)...))
	f.Add([]byte{0, 1, 2})
	s, d, err := netstack.Device(netstack.Config{Addrs: []netip.Addr{v4[0], v6[0]}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(_ *testing.T, p []byte) {
		_ = s.WritePacket(p) // most are none
		_, _ = d.Write(p)
	})
}
