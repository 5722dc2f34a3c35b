// Package stall measures, for tests, what arrivals that stall make a listener hold.
package stall

import (
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// PerArrival has n strangers connect to what serve starts on the listener given
// to it, each say something and then nothing, and returns the bytes of heap and of
// stacks that each holds, its own end included. The connections are pipes, on
// which a Write returns when all of it was read: no waiting is needed to know
// that the listener has it.
func PerArrival(t testing.TB, n int, say func(net.Conn) error, serve func(net.Listener)) int {
	t.Helper()
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	serve(l)
	before := inUse()
	strangers := make([]net.Conn, n)
	for i := range strangers {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close() })
		select {
		case l.conns <- there:
		case <-l.closed:
			t.Fatal("the listener closed")
		}
		if err := say(here); err != nil {
			t.Fatalf("the listener cut stranger %d: %v", i, err)
		}
		strangers[i] = here
	}
	held := inUse() - before
	runtime.KeepAlive(strangers)
	return held / n
}

// Say writes b in pieces, as a network would bring it.
func Say(b []byte) func(net.Conn) error {
	return func(c net.Conn) error {
		for piece := range slices.Chunk(b, 1400) {
			if _, err := c.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
}

func inUse() int {
	for range 4 { // pools empty in two, and each halves stacks that are too large
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse/stackFactor)
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
