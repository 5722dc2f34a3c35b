package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
)

// front is how much more than a frame's header a device wants before a packet.
const front = packet.VnetSize - packet.HeaderSize

// serve takes what a peer sends over one conn.
func (e *Engine) serve(id identity.ID, conn net.Conn) error {
	p, err := e.admit(id, conn)
	if err != nil {
		return err
	}
	defer p.leave(conn)
	defer context.AfterFunc(e.ctx, func() { conn.Close() })()
	r := &receiver{engine: e, peer: p, conn: conn}
	defer r.free()
	return r.run()
}

// admit lets a peer send, if it is heard.
func (e *Engine) admit(id identity.ID, conn net.Conn) (*peer, error) {
	if p := e.known(id); !e.policy.Load().Rules.Hears(id, e.cfg.Names) && (p == nil || !p.flows.Ours()) {
		e.counts.drop(notHeard)
		return nil, errors.New("no rule allows the peer anything")
	}
	e.cfg.Book.Guest(id)
	p := e.peer(id)
	if p == nil {
		return nil, errors.New("there are too many peers")
	}
	if !p.enter(conn) {
		return nil, errors.New("the peer has too many conns")
	}
	return p, nil
}

// A receiver reads frames and writes their packets to the device, each in place: the device's header is put over the
// end of the frame before.
type receiver struct {
	engine *Engine
	peer   *peer
	conn   net.Conn
	b      []byte
	lent   int64 // of the engine's guestMemory
}

// Sizes of a receiver's buffer: while nothing comes, and while much does.
const (
	smallBuffer = 2 << 10
	largeBuffer = 256 << 10
)

// run reads until the conn ends.
func (r *receiver) run() error {
	r.b = make([]byte, smallBuffer)
	from, to := front, front // what is read and not yet used
	for {
		n, err := r.conn.Read(r.b[to:])
		if err != nil {
			return err
		}
		to += n
		for to-from >= packet.HeaderSize {
			kind, size, segment, err := packet.ReadHeader(r.b[from:])
			if err != nil {
				return err
			}
			end := from + packet.HeaderSize + size
			if end > to {
				break
			}
			if err := r.take(kind, segment, r.b[from-front:end]); err != nil {
				return err
			}
			from = end
		}
		if from, to, err = r.makeRoom(from, to, n); err != nil {
			return err
		}
	}
}

// borrow has a guest's large buffer count. There is no more when guests hold too much.
func (r *receiver) borrow() bool {
	if !r.peer.guest.Load() {
		return true
	}
	r.lent = largeBuffer
	if r.engine.lent.Add(largeBuffer) <= guestMemory {
		return true
	}
	r.free()
	return false
}

func (r *receiver) free() {
	r.engine.lent.Add(-r.lent)
	r.lent = 0
}

// makeRoom moves what is left so that a whole frame fits. The buffer grows when there is much to read.
func (r *receiver) makeRoom(from, to, n int) (int, int, error) {
	const frame = packet.HeaderSize + packet.MaxSize
	b := r.b
	switch {
	case len(b) == smallBuffer && (from < to || n == len(b)-front):
		if !r.borrow() {
			return 0, 0, errors.New("guests have sent too much by halves")
		}
		b = make([]byte, largeBuffer)
	case len(b) == largeBuffer && from == to && n < smallBuffer-front:
		r.free()
		b = make([]byte, smallBuffer)
	case from < to && len(b)-from >= frame:
		return from, to, nil
	}
	to = front + copy(b[front:], r.b[from:to])
	r.b = b
	return front, to, nil
}

// take writes the packet of a frame to the device, if it may pass. b has VnetSize bytes before it.
func (r *receiver) take(kind packet.Kind, segment uint16, b []byte) error {
	e := r.engine
	if kind == packet.Echo {
		_, err := r.conn.Write(b[front:])
		return err
	}
	raw := b[packet.VnetSize:]
	p, err := packet.Parse(raw)
	if err == nil {
		err = p.Open(b, kind, segment)
	}
	if err != nil {
		e.counts.drop(malformed)
		return nil //nolint:nilerr // it is about this packet alone
	}
	if why := e.judge(r.peer, &p, raw); why != passed {
		e.counts.drop(why)
		return nil
	}
	if _, err := e.cfg.Device.Write(b); err != nil {
		if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
			return err
		}
		e.counts.drop(notTaken)
		return nil
	}
	r.peer.received.add(len(raw))
	return nil
}

// judge is whether a packet that a peer sent may pass.
func (e *Engine) judge(from *peer, p *packet.Packet, raw []byte) reason {
	switch {
	case !p.IsUnicast() || p.IsOfLink():
		return multicast
	case !e.theirs(p.Src, from.id) && !reports(p, raw, func(a netip.Addr) bool { return e.theirs(a, from.id) }):
		return spoofed
	case !e.ours(p.Dst, from.id):
		return notForUs
	}
	var quoted *packet.Packet
	if p.IsError() {
		q, err := packet.Quoted(raw[p.Header+8:])
		if err != nil {
			return malformed
		}
		quoted = &q
	}
	may := func() bool { return e.policy.Load().Rules.Allows(from.id, p, e.cfg.Names) }
	if !from.flows.In(p, quoted, time.Now(), may) {
		return denied
	}
	return passed
}
