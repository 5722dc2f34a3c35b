package forward

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// RemoteService is where a node takes wishes for ports of its machine. For each it listens, as long as the conn with the
// wish lives, and opens a conn to the service that the wish names for each that it accepts.
const RemoteService = "vpn-forward"

// backPrefix begins the services by which a peer brings back what it accepts.
const backPrefix = "vpn-back/"

const maxRemotes = 64 // wishes that a node fulfils at once

type wish struct {
	Port    uint16 `json:"port"`
	Service string `json:"service"`
}

type granted struct {
	Addr  string `json:"addr,omitempty"`
	Error string `json:"error,omitempty"`
}

// A PortRange is the ports from First to Last.
type PortRange struct{ First, Last uint16 }

// ParsePorts reads "8080" or "8000-8099".
func ParsePorts(text string) (PortRange, error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return PortRange{}, fmt.Errorf("%.40q are no ports: write 8080 or 8000-8099", text)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

// Accept fulfils wishes for those ports that come through l, until ctx is done.
func Accept(ctx context.Context, l net.Listener, ports []PortRange, dial Dial, log *slog.Logger) error {
	return Serve(ctx, l, maxRemotes, log, func(ctx context.Context, c net.Conn) {
		defer c.Close()
		peer := Caller(c)
		if err := fulfil(ctx, c, peer, ports, dial, log); err != nil {
			log.Info("no port for a peer", "peer", peer.Short(), "err", err)
		}
	})
}

func fulfil(ctx context.Context, c net.Conn, peer identity.ID, ports []PortRange, dial Dial, log *slog.Logger) error {
	_ = c.SetDeadline(time.Now().Add(Patience)) // it fails for what is closed, as Read will
	var w wish
	if err := ReadMessage(c, &w); err != nil {
		return err
	}
	l, err := w.listen(ctx, ports)
	if err != nil {
		return errors.Join(err, WriteMessage(c, granted{Error: err.Error()}))
	}
	defer l.Close()
	if err := WriteMessage(c, granted{Addr: l.Addr().String()}); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Time{})
	log.Info("a peer has a port here", "peer", peer.Short(), "addr", l.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the conn
		defer cancel()
		_, _ = io.Copy(io.Discard, c) // whatever comes: it is the end that counts
	}()
	return Local(ctx, l, dial, peer.String()+":"+w.Service, log)
}

// listen checks the wish and listens.
func (w *wish) listen(ctx context.Context, ports []PortRange) (net.Listener, error) {
	if !strings.HasPrefix(w.Service, backPrefix) {
		return nil, errors.New("the service to bring conns back by has another name")
	}
	for _, p := range ports {
		if p.First <= w.Port && w.Port <= p.Last {
			return ListenLoopback(ctx, strconv.Itoa(int(w.Port)))
		}
	}
	return nil, fmt.Errorf("port %d is not among those that may be had", w.Port)
}

// Remote asks peer for a port of its machine, and takes the conns that come there to target, until ctx is done or the
// peer ends it. ready is told where the peer listens.
func Remote(ctx context.Context, d *mesh.Dialer, g *Gate, peer identity.ID, port uint16, target string, log *slog.Logger, ready func(addr string)) error {
	var chance [8]byte
	rand.Read(chance[:])
	w := wish{port, backPrefix + hex.EncodeToString(chance[:])}
	l, err := g.Listen(d.Node, w.Service, &Access{Peers: map[identity.ID]bool{peer: true}})
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := dialWithin(ctx, d.Dial, peer.String()+":"+RemoteService)
	if err != nil {
		return fmt.Errorf("%w\nThe peer must let this node have a port: meshvpn forward accept --allow %s --ports %d", err, d.Node.ID(), port)
	}
	defer c.Close()
	asking, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var got granted
	if err := Ask(asking, c, w, &got); err != nil {
		return fmt.Errorf("asking for port %d: %w", port, err)
	}
	if got.Error != "" {
		return fmt.Errorf("the peer refuses port %d: %s", port, program.Printable(got.Error))
	}
	ready(program.Printable(got.Addr))
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() { // ends with the conn
		_, err := io.Copy(io.Discard, c)
		end(fmt.Errorf("the peer has ended the forward of its port %d: %w", port, errors.Join(err, io.EOF)))
	}()
	if err := Publish(ctx, l, target, log); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, io.EOF) {
		return cause
	}
	return nil
}
