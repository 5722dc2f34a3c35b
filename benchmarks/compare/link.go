package main

import (
	"fmt"
	"io"
	"net"
	"time"

	emulated "github.com/splitmesh/splitmesh/transport/link"
)

// A link is what lies between diallers and whom they dial. Its zero value is
// nothing.
type link struct {
	mbit int           // Mbit/s in each direction
	rtt  time.Duration // when idle
}

func (l link) String() string { return fmt.Sprintf("%dmbit-%dms", l.mbit, l.rtt.Milliseconds()) }

// gateway puts the link before listeners. It is a proxy for TCP connections, in
// this process and alike for all systems. They share its rate. A connection's
// first byte takes a round trip more, since the kernel's own handshake with the
// proxy takes none.
func (l link) gateway(w *closing) gateway {
	if l == (link{}) {
		return straight
	}
	way := emulated.Shape{Rate: int64(l.mbit) * 1e6 / 8, Delay: l.rtt / 2}
	shared := emulated.New(emulated.Config{Up: way, Down: way})
	return func(hostport string) (string, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		w.onClose(func() { ln.Close() })
		go func() { // ends with the listener
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go l.carry(c, hostport, shared) // ends with the connection
			}
		}()
		return ln.Addr().String(), nil
	}
}

func (l link) carry(near net.Conn, hostport string, shared *emulated.Link) {
	defer near.Close()
	<-time.After(l.rtt)
	far, err := net.Dial("tcp", hostport)
	if err != nil {
		return
	}
	far = emulated.Wrap(far, shared)
	defer far.Close()
	done := make(chan struct{}, 2)
	copying := func(to, from net.Conn) {
		// Not io.Copy on the socket itself: that would splice.
		_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64<<10))
		done <- struct{}{}
	}
	go copying(far, near)
	go copying(near, far)
	<-done // either direction's end is the end: no system half-closes while it is measured
}

// closing is what is to be closed in the end.
type closing struct{ fs []func() }

func (c *closing) onClose(f func()) { c.fs = append(c.fs, f) }

func (c *closing) close() {
	for _, f := range c.fs {
		f()
	}
}
