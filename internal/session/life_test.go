package session

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
	emulation "github.com/splitmesh/splitmesh/transport/link"
)

// TestMove goes through the drawing: every state, and every occasion.
func TestMove(t *testing.T) {
	drawing := map[State][6]State{
		//          answered  overdue outranked preferred lost  parted
		Probing:   {Active, Late, Probing, Probing, Dead, Dead},
		Active:    {Active, Late, Backup, Active, Dead, Dead},
		Backup:    {Backup, Late, Backup, Active, Dead, Dead},
		Late:      {Active, Late, Late, Late, Dead, Dead},
		Dead:      {Dead, Dead, Dead, Dead, Dead, Abandoned},
		Abandoned: {Abandoned, Abandoned, Abandoned, Abandoned, Abandoned, Abandoned},
	}
	for from, row := range drawing {
		for o, want := range row {
			if to, changed := from.move(occasion(o)); to != want || changed != (want != from) {
				t.Errorf("%v on occasion %d becomes %v, %v; want %v", from, o, to, changed, want)
			}
		}
	}
	if len(drawing) != len(stateNames) || State(9).String() != "state 9" || Late.String() != "late" {
		t.Error("a state is not drawn")
	}
}

// emulate adds a path over an emulated link of 1 MB/s and 10 ms each way.
func (p *pair) emulate(t *testing.T, relay int) (id uint32, l *emulation.Pipe) {
	shape := emulation.Shape{Rate: 1e6, Delay: 10 * time.Millisecond, Buffer: 32 << 20}
	l = emulation.New(emulation.Config{Up: shape, Down: shape}).Pipe(nil, nil)
	ca, cb := l.Conns()
	return p.join(t, relay, ca, cb), l
}

// withGrace is for newPair.
func withGrace(a, b *Config) { a.Grace, b.Grace = time.Minute, time.Minute }

// parting counts the dead paths that either end still waits to see abandoned.
func (p *pair) parting() (n int) {
	for _, s := range []*Session{p.a, p.b} {
		s.mu.Lock()
		n += len(s.parting)
		s.mu.Unlock()
	}
	return n
}

// TestLateAndBack: a path that delivers nothing for two seconds is found out within
// one, its bytes go over the other, and it is used again when it is back.
func TestLateAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var holed time.Time
		times := make(map[State]time.Duration) // after the black hole began, of path 2
		var mu sync.Mutex                      // guards holed and times
		p := newPair(t, func(a, _ *Config) {
			told := a.OnPath
			a.OnPath = func(s *Session, e Event) {
				told(s, e)
				mu.Lock()
				defer mu.Unlock()
				if _, first := times[e.State]; !first && e.Path.ID == 2 && !holed.IsZero() {
					times[e.State] = time.Since(holed)
				}
			}
		})
		p.emulate(t, 1)
		_, l := p.emulate(t, 2)
		here, there := p.stream(t)
		want := noise(31, 12<<20)
		go func() {
			here.Write(want)
			here.CloseWrite()
		}()
		got := make([]byte, 0, len(want))
		read := func(until func() bool) {
			for piece := make([]byte, 64<<10); !until(); {
				n, err := there.Read(piece)
				got = append(got, piece[:n]...)
				if err != nil {
					return
				}
			}
		}
		read(func() bool { return len(got) > 2<<20 })
		mu.Lock()
		holed = time.Now()
		mu.Unlock()
		l.BlackHole()
		read(func() bool { return time.Since(holed) >= 2*time.Second }) // virtual
		before := len(got)
		p.a.mu.Lock()
		carried := p.a.pathByID(2).stats.SentBytes
		p.a.mu.Unlock()
		l.Heal()
		read(func() bool { return false })
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes arrived, %d were sent", len(got), len(want))
		}
		if before < 3<<20 {
			t.Errorf("%d bytes had arrived when the path came back", before)
		}
		p.a.mu.Lock()
		after := p.a.pathByID(2).stats.SentBytes
		p.a.mu.Unlock()
		mu.Lock()
		died := times[Dead]
		mu.Unlock()
		p.a.Close()
		p.b.Close()
		if after < carried+1<<20 {
			t.Errorf("it carried %d bytes once it was back", after-carried)
		}
		mu.Lock()
		defer mu.Unlock()
		if late := times[Late]; late == 0 || late > time.Second {
			t.Errorf("found out after %v", late)
		}
		if back := times[Active]; back < 2*time.Second || back > 3*time.Second {
			t.Errorf("back after %v", back)
		}
		if died != 0 {
			t.Error("it died")
		}
	})
}

// TestLateBlocksGoOn: what two late paths had of blocks goes over the others, long
// before the late ones are dead.
func TestLateBlocksGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		links := make([]*emulation.Pipe, 4)
		for i := range links {
			_, links[i] = p.emulate(t, 1+i)
		}
		here, there := p.open(t, coded["erasure 2 of 3"], splitter.Interactive)
		want := noise(33, 4<<20)
		go func() {
			here.Write(want)
			here.CloseWrite()
		}()
		var longest time.Duration
		got, piece := make([]byte, 0, len(want)), make([]byte, 64<<10)
		for at := time.Now(); ; at = time.Now() {
			n, err := there.Read(piece)
			longest = max(longest, time.Since(at))
			if len(got) < 1<<20 && len(got)+n >= 1<<20 {
				links[0].BlackHole()
				links[1].BlackHole()
			}
			if got = append(got, piece[:n]...); err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) || longest > 1500*time.Millisecond { // virtual
			t.Errorf("%d bytes of %d arrived, the longest wait was %v", len(got), len(want), longest)
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestDeadPathsAreAbandoned: by both ends, after a black hole as after a reset, and
// also a path that came about at one end only.
func TestDeadPathsAreAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		p.emulate(t, 1)
		_, hole := p.emulate(t, 2)
		_, reset := p.emulate(t, 3)
		begin := time.Now()
		hole.BlackHole()
		reset.Cut()
		ca, _ := emulation.New(emulation.Config{}).Pipe(nil, nil).Conns()
		_, rb := p.results(9)
		if err := p.b.AddPath(ca, rb, PathInfo{Relay: relayNumber(4)}); err != nil {
			t.Fatal(err)
		}
		here, there := p.stream(t)
		if _, err := here.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(there, make([]byte, 1))
		ca.Close()
		time.Sleep(defaultKeepAlive + 2*defaultDeadAfter) // virtual
		for _, s := range []*Session{p.a, p.b} {
			if st := s.Stats(); len(st.Paths) != 1 || st.Paths[0].State != Active {
				t.Errorf("%v after the start: %+v", time.Since(begin), st.Paths)
			}
		}
		if n := p.parting(); n != 0 {
			t.Errorf("%d paths are not abandoned", n)
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestUnansweredAbandons: a peer that abandons no path is cut off.
func TestUnansweredAbandons(t *testing.T) {
	p := newPair(t, nil)
	add := func(id uint32) error {
		r, _ := p.results(id)
		return p.a.AddPath(newSinkConn(), r, PathInfo{Relay: relayNumber(int(id))})
	}
	if err := add(FirstPath); err != nil {
		t.Fatal(err)
	}
	n := 0
	for id := uint32(2); p.a.Err() == nil; id++ {
		if err := add(id); err != nil {
			t.Fatal(err)
		}
		p.a.lose(id)
		n++
	}
	if !isProtocol(p.a.Err()) || !strings.Contains(p.a.Err().Error(), "answers none of") || n != maxParting+1 {
		t.Errorf("after %d paths: %v", n, p.a.Err())
	}
}

// TestAbandonIsAnsweredOnce: also for a path that is not known here, but not when
// it is the answer itself.
func TestAbandonIsAnsweredOnce(t *testing.T) {
	s, p := victim(t, false)
	before := held(s)
	for i, step := range []struct {
		path    uint32
		parting bool
		answers int
	}{{7, false, 1}, {8, true, 0}} {
		if step.parting {
			s.parting[step.path] = struct{}{}
		}
		message := appendAbandon(nil, step.path)
		if err := feed(s, p, uint64(i), data(laneControl, uint64(i*len(message)), message...)); err != nil {
			t.Fatal(err)
		}
		after := held(s)
		if after-before != step.answers*len(message) || len(s.parting) != 0 {
			t.Errorf("%+v: %d bytes of answers, %d parting", step, after-before, len(s.parting))
		}
		before = after
	}
}

// TestRefusedPaths: ids never come back, and no path of another peer joins.
func TestRefusedPaths(t *testing.T) {
	p := newPair(t, nil)
	add := func(id uint32) error {
		r, _ := p.results(id)
		return p.a.AddPath(newSinkConn(), r, PathInfo{Relay: relayNumber(int(id))})
	}
	for _, tt := range []struct {
		id   uint32
		want string
	}{
		{0, "path id 0"}, {1, ""}, {1, "path id 1 was used"}, {70, ""}, {7, ""}, {7, "path id 7 was used"},
		{6, "path id 6 was used"}, // who knows: too old
	} {
		err := add(tt.id)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("path %d: %v, want %q", tt.id, err, tt.want)
		}
		if tt.want == "" && tt.id != 1 {
			p.a.lose(tt.id)
		}
	}
	for what, err := range map[string]error{
		"another peer": func() error {
			r, _ := p.results(71)
			r.Peer = relayNumber(3)
			return p.a.AddPath(newSinkConn(), r, PathInfo{})
		}(),
		"another run of the peer": func() error {
			r, _ := p.results(72)
			r.PeerInstance = [16]byte{1}
			return p.a.AddPath(newSinkConn(), r, PathInfo{})
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "another peer") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for id := uint32(80); id < 80+MaxPaths-1; id++ {
		if err := add(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(99); !errors.Is(err, ErrTooManyPaths) {
		t.Error(err)
	}
	if n := p.b.AllotPath(); n != 2 || p.b.AllotPath() != 3 {
		t.Error("ids are not allotted in turn: ", n)
	}
}

// TestDirectOutranks: relayed paths step back for a direct one, without a pause,
// and take over again when it dies.
func TestDirectOutranks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.emulate(t, 1)
		here, there := p.stream(t)
		sent := func(path uint32) uint64 {
			p.a.mu.Lock()
			defer p.a.mu.Unlock()
			return p.a.pathByID(path).stats.SentBytes
		}
		move := func(n int) {
			t.Helper()
			go here.Write(make([]byte, n))
			if _, err := io.ReadFull(there, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		state := func(s *Session, path uint32) State {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.pathByID(path).state
		}
		move(1 << 20)
		_, direct := p.emulate(t, 0)
		time.Sleep(time.Second) // virtual
		if state(p.a, 1) != Backup || state(p.b, 1) != Backup || state(p.a, 2) != Active {
			t.Fatal(state(p.a, 1), state(p.b, 1), state(p.a, 2))
		}
		before := sent(1)
		move(1 << 20)
		if n := sent(1) - before; n > 0 || sent(2) < 1<<20 {
			t.Errorf("the relay carried %d bytes, the direct path %d", n, sent(2))
		}
		direct.BlackHole()
		begin := time.Now()
		move(100 << 10)
		if took := time.Since(begin); took > 1500*time.Millisecond || state(p.a, 1) != Active { // virtual
			t.Errorf("fell back after %v; the relay's path is %v", took, state(p.a, 1))
		}
		direct.Heal()
		time.Sleep(time.Second) // virtual
		if state(p.a, 1) != Backup {
			t.Errorf("the relay's path is %v", state(p.a, 1))
		}
		direct.Cut()
		synctest.Wait()
		move(100 << 10)
		if state(p.a, 1) != Active || state(p.b, 1) != Active {
			t.Errorf("the relay's path is %v", state(p.a, 1))
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestResume: all paths die in mid-transfer, and half a minute later another comes.
func TestResume(t *testing.T) {
	for _, policy := range []splitter.Policy{plainPolicy, coded["erasure 2 of 3"], coded["secrecy 2 of 3"]} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, withGrace)
			links := make([]*emulation.Pipe, 3)
			for i := range links {
				_, links[i] = p.emulate(t, 1+i)
			}
			here, there := p.open(t, policy, splitter.Interactive)
			want := noise(32, 2<<20)
			go func() {
				here.Write(want)
				here.CloseWrite()
			}()
			got := make([]byte, len(want)/3)
			if _, err := io.ReadFull(there, got); err != nil {
				t.Fatal(err)
			}
			for _, l := range links {
				l.Cut()
			}
			time.Sleep(30 * time.Second) // virtual
			if since, held := p.a.Pathless(); time.Since(since) < 29*time.Second || held == 0 {
				t.Errorf("pathless since %v with %d bytes", since, held)
			}
			for i := range links {
				p.emulate(t, 11+i)
			}
			rest, err := io.ReadAll(there)
			if got = slices.Concat(got, rest); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: %d bytes of %d, %v", policy.Purpose, len(got), len(want), err)
			}
			if since, _ := p.a.Pathless(); !since.IsZero() {
				t.Error("pathless since ", since)
			}
			p.a.Close()
			p.b.Close()
		})
	}
}

// TestPathless: deadlines fire while there is no path, Close returns, and after the
// grace period everything ends with an error that says why.
func TestPathless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		id, _ := p.emulate(t, 1)
		here, there := p.stream(t)
		p.cut(id)
		synctest.Wait()
		begin := time.Now()
		here.SetDeadline(begin.Add(time.Second))
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if _, err := here.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Second { // virtual: exact
			t.Errorf("deadlines took %v", took)
		}
		here.SetDeadline(time.Time{})
		closing := time.Now()
		there.Close()
		p.b.Close()
		if took := time.Since(closing); took > lingerLimit+partingLimit { // virtual
			t.Errorf("Close took %v", took)
		}
		if _, err := here.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "none came back within 1m0s") {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Minute { // virtual: exact
			t.Errorf("the grace period took %v", took)
		}
		if lost, ok := errors.AsType[*PathsLostError](p.a.Err()); !ok || lost.Grace != time.Minute || lost.Last == nil {
			t.Error(p.a.Err())
		}
	})
}

// TestSetGrace: a shorter grace period holds at once, none ends the session.
func TestSetGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		id, _ := p.emulate(t, 1)
		p.cut(id)
		synctest.Wait()
		begin := time.Now()
		p.a.SetGrace(3 * time.Second)
		p.b.SetGrace(0)
		<-p.b.Done()
		<-p.a.Done()
		if took := time.Since(begin); took != 3*time.Second { // virtual: exact
			t.Errorf("it took %v", took)
		}
	})
}

// TestAbandon: a session ends when it has been without paths for so long and nobody has a use for it, and for nothing less.
func TestAbandon(t *testing.T) {
	const after = 3 * time.Second
	acked := func() { time.Sleep(time.Second) } // virtual
	closed := func(here, there *Stream) { here.Close(); there.Close(); acked() }
	for name, tt := range map[string]struct {
		before, later func(here, there *Stream) // the paths are cut
		wait          time.Duration
		ends          bool
	}{
		"unused":            {closed, nil, after, true},
		"not so long":       {closed, nil, after - 1, false},
		"a stream":          {nil, nil, after, false},
		"half of one":       {func(here, _ *Stream) { here.CloseWrite(); acked() }, nil, after, false},
		"bytes to go":       {func(here, _ *Stream) { here.Write(noise(1, 100)); go here.Close() }, nil, after, false},
		"an end on its way": {func(here, there *Stream) { there.Close(); acked(); here.Close() }, nil, after, false},
		"an end to go":      {func(_, there *Stream) { there.Close(); acked() }, func(here, _ *Stream) { here.Close() }, after, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, withGrace)
				id, _ := p.emulate(t, 1)
				here, there := p.stream(t)
				if tt.before != nil {
					tt.before(here, there)
				}
				p.cut(id)
				synctest.Wait()
				if tt.later != nil {
					tt.later(here, there)
				}
				time.Sleep(tt.wait) // virtual
				p.a.Abandon(after)
				synctest.Wait()
				if _, lost := errors.AsType[*PathsLostError](p.a.Err()); lost != tt.ends || !lost && p.a.Err() != nil {
					t.Error(p.a.Err())
				}
				p.a.Close()
				p.b.Close()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		id, _ := p.emulate(t, 1)
		p.cut(id)
		p.emulate(t, 2)
		time.Sleep(2 * after) // virtual
		if p.a.Abandon(after); p.a.Err() != nil {
			t.Error("with a path:", p.a.Err())
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestLateTwiceGoesByTheThird: a segment that a late path has, and another which is
// late too or dies, goes over a third at once, and does not wait for the first to die.
func TestLateTwiceGoesByTheThird(t *testing.T) {
	for after := 100 * time.Millisecond; after <= 200*time.Millisecond; after += 10 * time.Millisecond {
		for what, end := range map[string]func(*emulation.Pipe){"late": (*emulation.Pipe).BlackHole, "reset": (*emulation.Pipe).Cut} {
			if longest := lateTwice(t, after, end); longest > 2500*time.Millisecond { // virtual
				t.Errorf("%s after %v: the longest wait was %v", what, after, longest)
			}
		}
	}
}

// lateTwice sends over three paths of which the first vanishes in a black hole, and
// the second ends some time after. It returns the longest wait of the reader.
func lateTwice(t *testing.T, after time.Duration, end func(*emulation.Pipe)) (longest time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		links := make([]*emulation.Pipe, 3)
		for i := range links {
			_, links[i] = p.emulate(t, 1+i)
		}
		here, there := p.stream(t)
		want := noise(34, 3<<20)
		go func() {
			here.Write(want)
			here.CloseWrite()
		}()
		got, piece := make([]byte, 0, len(want)), make([]byte, 64<<10)
		holed := false
		for at := time.Now(); ; at = time.Now() {
			n, err := there.Read(piece)
			longest = max(longest, time.Since(at))
			if !holed && len(got) > 1<<20 {
				holed = true
				links[0].BlackHole()
				p.a.mu.Lock()
				here.lane.spare.Resent(1 << 30) // no rescue: there may be more than that helps
				p.a.mu.Unlock()
				time.AfterFunc(after, func() { end(links[1]) }) // virtual: it may have a copy of what the first has
			}
			if got = append(got, piece[:n]...); err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d arrived", len(got), len(want))
		}
		p.a.Close()
		p.b.Close()
	})
	return longest
}
