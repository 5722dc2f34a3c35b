package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A reason is why a packet was dropped.
type reason int

const (
	passed reason = iota
	malformed
	multicast
	noRoute
	notOurs
	tooMany
	queueFull
	noHost
	notHeard
	spoofed
	notForUs
	denied
	notTaken
	reasons
)

var reasonTexts = [reasons]string{
	malformed: "malformed", multicast: "not-unicast", noRoute: "no-route", notOurs: "source-not-ours", tooMany: "too-many-peers",
	queueFull: "queue-full", noHost: "peer-unreachable", notHeard: "conn-of-stranger", spoofed: "source-not-the-sender's",
	notForUs: "not-for-us", denied: "denied", notTaken: "refused-by-kernel",
}

type counters [reasons]atomic.Uint64

func (c *counters) drop(why reason) { c[why].Add(1) }

// Traffic counts packets, of which the kernel may make several, and their bytes.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (t *traffic) now() Traffic { return Traffic{t.packets.Load(), t.bytes.Load()} }

// A PeerStatus says how it is with one peer.
type PeerStatus struct {
	ID       identity.ID `json:"id"`
	IPv4     string      `json:"ipv4,omitempty"`
	IPv6     string      `json:"ipv6,omitempty"`
	Streams  int         `json:"streams"` // to it
	Conns    int         `json:"conns"`   // from it
	Paths    []Path      `json:"paths,omitempty"`
	Sent     Traffic     `json:"sent"`
	Received Traffic     `json:"received"`
	Error    string      `json:"error,omitempty"` // why it could not be reached
}

// Seconds is a time that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(math.Round(f * float64(time.Second)))
	return nil
}

// A Path is one by which a peer is reached: what of a mesh.Path is for people, and for the programs that they write.
type Path struct {
	Relay    identity.ID `json:"relay,omitzero"` // zero: it is direct
	Operator string      `json:"operator,omitempty"`
	Remote   string      `json:"remote"`
	State    string      `json:"state"`
	Sent     uint64      `json:"sent_bytes"`
	ReSent   uint64      `json:"resent_bytes"`
	Received uint64      `json:"received_bytes"`
	InFlight int         `json:"in_flight_bytes"`
	Window   int         `json:"window_bytes"`
	RTT      Seconds     `json:"rtt_seconds"`
	Rate     float64     `json:"rate_bytes_per_second"`
	Blamed   uint64      `json:"blamed_frames"`
}

func pathsOf(all []mesh.Path) (out []Path) {
	for _, p := range all {
		out = append(out, Path{
			Relay: p.Relay, Operator: p.Operator, Remote: p.Remote, State: p.State.String(), Sent: p.Sent, ReSent: p.ReSent, Received: p.Received,
			InFlight: p.InFlight, Window: p.Window, RTT: Seconds(p.RTT), Rate: p.Rate, Blamed: p.Blamed,
		})
	}
	return out
}

// A Status says how it is with the engine.
type Status struct {
	ID      identity.ID       `json:"id"`
	IPv4    string            `json:"ipv4,omitempty"`
	IPv6    string            `json:"ipv6"`
	Peers   []PeerStatus      `json:"peers"`
	Dropped map[string]uint64 `json:"dropped"` // packets, by reason
}

// Status says how it is.
func (e *Engine) Status() Status {
	s := Status{ID: e.cfg.Node.ID(), Dropped: make(map[string]uint64)}
	s.IPv4, s.IPv6 = e.addrs(s.ID)
	for _, p := range e.all() {
		x := PeerStatus{ID: p.id, Sent: p.sent.now(), Received: p.received.now()}
		x.IPv4, x.IPv6 = e.addrs(p.id)
		x.Paths = pathsOf(p.paths())
		p.mu.Lock()
		x.Streams, x.Conns = len(p.streams), len(p.conns)
		if p.err != nil && !slices.ContainsFunc(slices.Collect(maps.Values(p.streams)), func(s *stream) bool { return s.conn != nil }) {
			x.Error = p.err.Error()
		}
		p.mu.Unlock()
		s.Peers = append(s.Peers, x)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int { return a.ID.Compare(b.ID) })
	for why, text := range reasonTexts {
		if n := e.counts[why].Load(); n > 0 {
			s.Dropped[text] = n
		}
	}
	return s
}

func (e *Engine) addrs(id identity.ID) (v4, v6 string) {
	a, b := e.cfg.Book.Addrs(id)
	if a.IsValid() {
		v4 = a.String()
	}
	if b.IsValid() {
		v6 = b.String()
	}
	return v4, v6
}

// A Pong is a peer's answer.
type Pong struct {
	RTT   Seconds `json:"rtt_seconds"`
	Paths []Path  `json:"paths"`
}

// pingSize is that of a small packet.
const pingSize = 56

// ErrNotHeard reports a peer that takes nothing of what we send.
var ErrNotHeard = errors.New("the peer allows us nothing: it needs a rule such as allow NAME icmp")

var errNoWay = fmt.Errorf("no way led to the peer within %v: a relay of its, or of this node, may be down (meshvpn doctor NAME.mesh:vpn tries each): %w", dialTimeout, context.DeadlineExceeded)

// Ping has a peer send a frame back n times and calls each with what came of it. It needs that the peer hears us.
func (e *Engine) Ping(ctx context.Context, id identity.ID, n int, each func(Pong) error) error {
	d := e.cfg.Dialer
	d.Class, d.FastOpen = splitter.Interactive, false
	dialling, cancel := context.WithTimeoutCause(ctx, dialTimeout, errNoWay)
	conn, err := d.Dial(dialling, id.String()+":"+Service)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	ask, answer := make([]byte, packet.HeaderSize+pingSize), make([]byte, packet.HeaderSize+pingSize)
	packet.PutHeader(ask, packet.Echo, pingSize)
	for range n {
		rand.Read(ask[packet.HeaderSize:])
		began := time.Now()
		_ = conn.SetDeadline(began.Add(dialTimeout)) // it fails for what is closed, as Write will
		if _, err := conn.Write(ask); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrNotHeard
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("the peer has not answered within %v: %w", dialTimeout, err)
			}
			return err
		}
		if string(ask) != string(answer) {
			return fmt.Errorf("%s sent something else back", id.Short())
		}
		if err := each(Pong{Seconds(time.Since(began)), pathsOf(conn.(*mesh.Conn).Paths())}); err != nil {
			return err
		}
	}
	return nil
}

// Silent is the status of a peer with whom there was no traffic.
func (e *Engine) Silent(id identity.ID) (p PeerStatus) {
	p.ID = id
	p.IPv4, p.IPv6 = e.addrs(id)
	return p
}
