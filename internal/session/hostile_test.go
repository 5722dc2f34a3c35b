package session

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/splitter"
)

// A sinkConn swallows what is written and never has anything to read.
type sinkConn struct{ closed chan struct{} }

func newSinkConn() *sinkConn { return &sinkConn{make(chan struct{})} }

func (c *sinkConn) Read([]byte) (int, error)         { <-c.closed; return 0, net.ErrClosed }
func (c *sinkConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *sinkConn) LocalAddr() net.Addr              { return nil }
func (c *sinkConn) RemoteAddr() net.Addr             { return nil }
func (c *sinkConn) SetDeadline(time.Time) error      { return nil }
func (c *sinkConn) SetReadDeadline(time.Time) error  { return nil }
func (c *sinkConn) SetWriteDeadline(time.Time) error { return nil }
func (c *sinkConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

// victim is a session with one path, which the test plays the peer of.
func victim(t tester, dialler bool) (*Session, *path) {
	p := newPair(t, nil)
	s := p.b
	_, r := p.results(FirstPath)
	if dialler {
		s = p.a
		r, _ = p.results(FirstPath)
	}
	if err := s.AddPath(newSinkConn(), r, PathInfo{}); err != nil {
		t.Fatal(err)
	}
	return s, s.pathByID(FirstPath)
}

// feed hands a frame's plaintext to the session as the path's reader would.
func feed(s *Session, p *path, packet uint64, plain []byte) error {
	b := buf.Get(len(plain))
	defer b.Release()
	copy(b.B, plain)
	var n news
	defer n.announce()
	return s.handle(p, packet, b.B, b, &n)
}

func data(lane byte, offset uint64, payload ...byte) []byte {
	b := make([]byte, dataHeader, dataHeader+len(payload))
	putDataHeader(b, lane, offset)
	return append(b, payload...)
}

// resilient is a policy that no lane begins with.
var resilient = splitter.Policy{Purpose: splitter.Resilience, K: 2, N: 3, MinPaths: 2, MaxShare: 1}

func held(s *Session) int {
	st := s.Stats()
	return st.Unacknowledged()
}

func control(message []byte) []byte { return data(laneControl, 0, message...) }

func TestHostileFrames(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dialler bool
		plain   []byte
		want    string
	}{
		{name: "unknown type", plain: []byte{9}, want: "frame of type 9"},
		{name: "short datagram", plain: []byte{typeGram, 1}, want: "datagram frame of 2 bytes"},
		{name: "oversized datagram", plain: append([]byte{typeGram}, make([]byte, gramHeader+MaxDatagram)...), want: "datagram frame of"},
		{name: "empty data", plain: data(laneDefault, 0), want: "data frame of 10 bytes"},
		{name: "short data", plain: []byte{typeData, 0}, want: "data frame of 2 bytes"},
		{name: "oversized data", plain: data(laneDefault, 0, make([]byte, maxSegment+1)...), want: "want at most"},
		{name: "unknown lane", plain: data(0x77, 0, 1), want: "lane 0x77"},
		{name: "beyond credit", plain: data(laneDefault, laneCredit, 1), want: "credit"},
		{name: "offset wraps", plain: data(laneDefault, ^uint64(0), 1, 2), want: "credit"},
		{name: "not a mux frame", plain: data(laneDefault, 0, bytes.Repeat([]byte{0xff}, 12)...), want: "streams"},
		{name: "empty ack", plain: []byte{typeAck, 0, 0}, want: "malformed acknowledgement"},
		{name: "short ack", plain: []byte{typeAck}, want: "malformed acknowledgement"},
		{name: "ack cut off", plain: []byte{typeAck, 1, 0, 0}, want: "malformed acknowledgement"},
		{name: "ack with too many paths", plain: append([]byte{typeAck, 200}, make([]byte, 200*pathAckSize+1)...), want: "malformed acknowledgement"},
		{name: "ack with bytes left over", plain: append(appendAck(nil, &ack{Lanes: []laneAck{{0, 0, 1}}}), 0), want: "malformed acknowledgement"},
		{name: "credit below offset", plain: appendAck(nil, &ack{Lanes: []laneAck{{0, 2, 1}}}), want: "credit 1 below offset 2"},
		{name: "ack of what was not sent", plain: appendAck(nil, &ack{Paths: []pathAck{{FirstPath, 1 << 40, 0}}}), want: "acknowledged to packet"},
		{name: "ack of bytes not written", plain: appendAck(nil, &ack{Lanes: []laneAck{{laneDefault, 99, 99}}}), want: "acknowledged to 99"},
		{name: "ack of an unknown lane", plain: appendAck(nil, &ack{Lanes: []laneAck{{0x33, 0, 9}}}), want: "unknown lane 0x33"},
		{name: "short ping", plain: []byte{typePing, 1}, want: "ping of 2 bytes"},
		{name: "long pong", plain: append([]byte{typePong}, make([]byte, 9)...), want: "ping of 10 bytes"},
		{name: "padding with a message", plain: []byte{typePad, 0, 1}, want: "padding is not zero"},
		{name: "a message of old", plain: control([]byte{1, 0, 32}), want: "control message of type 1"},
		{name: "unknown message", plain: control([]byte{77, 0, 0}), want: "control message of type 77"},
		{name: "oversized message", plain: control([]byte{msgClose, 0xff, 0xff}), want: "control message of type 3"},
		{name: "impossible policy", plain: control(appendPolicy(nil, laneDefault, splitter.Interactive, splitter.Policy{Purpose: 1, MinPaths: 2, MaxShare: 0.1})), want: "impossible split policy"},
		{name: "short policy", plain: control([]byte{msgPolicy, 0, 3, 0, 1, 1}), want: "control message of type 4"},
		{name: "policy of no path", plain: control([]byte{msgPolicy, 0, 8, laneDefault, 1, 1, 0, 0, 0, 0x27, 0x10}), want: "leaves something out"},
		{name: "policy of no class", plain: control([]byte{msgPolicy, 0, 8, laneDefault, 0, 1, 0, 0, 1, 0x27, 0x10}), want: "leaves something out"},
		{name: "policy of no purpose", plain: control([]byte{msgPolicy, 0, 8, laneDefault, 1, 9, 0, 0, 1, 0x27, 0x10}), want: "purpose 9"},
		{name: "policy of the control lane", plain: control(appendPolicy(nil, laneControl, splitter.Interactive, plainPolicy)), want: "lane 0 can't become"},
		{name: "another class", plain: control(appendPolicy(nil, laneDefault, splitter.Bulk, plainPolicy)), want: "lane 1 can't become throughput of class bulk"},
		{name: "another scheme", plain: control(appendPolicy(nil, laneDefault, splitter.Interactive, resilient)), want: "lane 1 can't become resilience"},
		{name: "a lane of ours", plain: control(appendPolicy(nil, 3, splitter.Interactive, plainPolicy)), want: "lane 3 is not the peer's"},
		{name: "a lane of the listener's", dialler: true, plain: control(appendPolicy(nil, 2, splitter.Interactive, plainPolicy)), want: "lane 2 is not the peer's"},
		{name: "close that is not text", plain: control([]byte{msgClose, 0, 3, 0, 0, 0xff}), want: "control message of type 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, p := victim(t, tt.dialler)
			err := feed(s, p, 0, tt.plain)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want one that says %q", err, tt.want)
			}
			if !isProtocol(err) {
				t.Errorf("%T is no *ProtocolError", err)
			}
			// A lane that failed stays so, and the reader ends the session.
			s.failNow(err)
			if !errors.Is(s.Err(), err) {
				t.Error(s.Err())
			}
		})
	}
}

// TestMessagesThatNobodyAcknowledges: a peer can't make us hold more than the
// bounds by giving paths up, which we answer, and acknowledging none.
func TestMessagesThatNobodyAcknowledges(t *testing.T) {
	s, p := victim(t, false)
	want := appendAbandon(nil, 99)
	most := 0
	for i := uint64(0); s.Err() == nil; i++ {
		if i > 1<<20 {
			t.Fatal("it holds ", held(s))
		}
		if err := feed(s, p, i, data(laneControl, i*uint64(len(want)), want...)); err != nil {
			t.Fatal(err)
		}
		most = max(most, held(s))
	}
	if !isProtocol(s.Err()) || most > maxControl+maxMessage {
		t.Fatalf("%v after %d bytes", s.Err(), most)
	}
}

// TestPingsDoNotAcknowledge: a peer that pings, and acknowledges none of what is
// in flight, does not keep the path alive.
func TestPingsDoNotAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := victim(t, true)
		st, err := s.Open(plainPolicy, splitter.Interactive)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := uint64(0); s.Err() == nil; i++ {
			time.Sleep(time.Second) // virtual
			if err := feed(s, p, i, append([]byte{typePing}, make([]byte, 8)...)); err != nil {
				t.Fatal(err)
			}
			if time.Since(begin) > 2*defaultDeadAfter { // virtual
				t.Fatal("the path lives")
			}
		}
		if !errors.Is(s.Err(), ErrPathDead) {
			t.Error(s.Err())
		}
	})
}

func TestHarmlessFrames(t *testing.T) {
	s, p := victim(t, false)
	for i, plain := range [][]byte{
		{typePad}, {typePad, 0, 0, 0}, append([]byte{typePong}, make([]byte, 8)...), append([]byte{typePing}, "12345678"...),
		appendAck(nil, &ack{Paths: []pathAck{{99, 7, 0}}}), // of a path that is gone
		control(appendAbandon(nil, 99)),
	} {
		if err := feed(s, p, uint64(i), plain); err != nil {
			t.Errorf("%x: %v", plain, err)
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

// TestCodecs: what is written is read back, and only that.
func TestCodecs(t *testing.T) {
	a := ack{Paths: []pathAck{{7, 1 << 40, 1234 * time.Microsecond}, {8, 0, 0}}, Lanes: []laneAck{{laneDefault, 5, 9}}}
	var got ack
	if err := parseAck(appendAck(nil, &a), &got); err != nil || len(got.Paths) != 2 || got.Paths[0] != a.Paths[0] || got.Lanes[0] != a.Lanes[0] {
		t.Fatalf("%+v, %v", got, err)
	}
	long := strings.Repeat("ü", maxCloseText)
	for _, m := range [][]byte{
		appendAbandon(nil, 9), appendClose(nil, CodeRefused, "why"),
		appendClose(nil, CodeNormal, long), appendClose(nil, CodeNormal, "\xff"), appendPolicy(nil, 4, splitter.Bulk, splitter.Policy{Purpose: splitter.Throughput, MinPaths: 3, MaxShare: 0.3599999}), appendPolicy(nil, 3, splitter.Interactive, resilient),
	} {
		if _, n, err := parseMessage(m); err != nil || n != len(m) {
			t.Errorf("%x: %d, %v", m, n, err)
		}
		for cut := range m {
			if _, n, err := parseMessage(m[:cut]); err != nil || n != 0 {
				t.Errorf("%x: %d, %v", m[:cut], n, err)
			}
		}
	}
	for c, want := range map[Code]string{CodeNormal: "closed", CodeProtocol: "protocol error", CodeReplaced: "replaced by a new instance", CodeRefused: "refused", 99: "code 99"} {
		if c.String() != want {
			t.Error(c)
		}
	}
	for _, tt := range []struct {
		err  error
		is   error
		text string
	}{
		{&ClosedError{Text: "x", Remote: true}, ErrPeerGone, `by the peer ("x")`},
		{&ClosedError{Code: CodeReplaced}, ErrPeerGone, "here: replaced by a new instance"},
		{&ClosedError{}, net.ErrClosed, "was closed here"},
		{&PathsLostError{Last: ErrPathDead}, ErrPathDead, "does not answer"},
	} {
		if !errors.Is(tt.err, tt.is) || !strings.Contains(tt.err.Error(), tt.text) {
			t.Error(tt.err)
		}
	}
}

func FuzzAck(f *testing.F) {
	f.Add(appendAck(nil, &ack{Paths: []pathAck{{7, 1 << 40, 99}}, Lanes: []laneAck{{laneDefault, 5, 9}}}))
	f.Add([]byte{typeAck, 0, 0})
	var a ack
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		p[0] = typeAck
		if parseAck(p, &a) == nil && !bytes.Equal(appendAck(nil, &a), p) {
			t.Fatalf("%x is read as %+v, which is written as %x", p, a, appendAck(nil, &a))
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add(append(appendAbandon(nil, 7), appendClose(nil, 1, "bye")...))
	f.Add(appendPolicy(nil, laneDefault, splitter.Interactive, splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}))
	f.Add(appendMessage(nil, msgWish, nil))
	f.Add(appendMessage(nil, msgAccept, make([]byte, rekey.MinAcceptSize)))
	f.Add([]byte{msgPolicy, 0, 8, laneDefault, 1, 1, 0, 0, 2, 0x17, 0x7e}) // 0.6014, which is less than its binary fraction
	f.Fuzz(func(t *testing.T, p []byte) {
		m, n, err := parseMessage(p)
		if err != nil || n == 0 {
			return
		}
		var again []byte
		switch m.kind {
		case msgAbandon:
			again = appendAbandon(nil, m.path)
		case msgWish, msgPropose, msgAccept:
			again = appendMessage(nil, m.kind, m.body)
		case msgClose:
			again = appendClose(nil, m.code, m.text)
		case msgPolicy:
			again = appendPolicy(nil, m.lane, m.class, m.policy)
		}
		if !bytes.Equal(again, p[:n]) {
			t.Fatalf("%x is written as %x", p[:n], again)
		}
	})
}

// FuzzSession lets a peer that holds the keys send anything. The session must
// neither panic nor hold more than its bounds; what it refuses, it refuses as
// the peer's fault. Frames are cut from the input as length 8, bytes.
func FuzzSession(f *testing.F) {
	frames := func(plain ...[]byte) (out []byte) {
		for _, p := range plain {
			out = append(append(out, byte(len(p))), p...)
		}
		return out
	}
	syn := data(laneDefault, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 'a', 'b', 'c')
	f.Add(false, frames(syn, data(laneDefault, 15, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0)))
	f.Add(true, frames(control(appendAbandon(nil, 3)), append([]byte{typePing}, make([]byte, 8)...)))
	f.Add(false, frames(data(laneDefault, 100, 1, 2, 3), data(laneDefault, 50, 9), appendAck(nil, &ack{Lanes: []laneAck{{laneDefault, 0, 1 << 30}}})))
	f.Add(false, frames(control(appendPolicy(nil, laneDefault, splitter.Interactive, splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6})), syn, []byte{typePad, 0}))
	f.Fuzz(func(t *testing.T, dialler bool, in []byte) {
		s, p := victim(t, dialler)
		for packet := uint64(0); len(in) > 1; packet++ {
			n := min(int(in[0]), len(in)-1)
			plain := in[1 : 1+n]
			in = in[1+n:]
			if n == 0 {
				continue // a frame has at least one byte: frame refuses less
			}
			if err := feed(s, p, packet, plain); err != nil {
				s.failNow(err)
				break
			}
		}
		st := s.Stats()
		if st.OutOfOrder() > laneCredit*len(s.lanes) || st.Unacknowledged() > 2*(maxHeld+maxControl) || st.Streams > 4096 {
			t.Fatalf("%+v", st)
		}
	})
}
