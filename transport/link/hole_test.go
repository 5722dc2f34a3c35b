package link

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBlackHoleHoldsAndHealDelivers(t *testing.T) {
	for name, shape := range map[string]Shape{
		"plain":  {},
		"rate":   {Rate: 100_000},
		"delay":  {Delay: time.Second},
		"shaped": {Rate: 100_000, Delay: time.Second, Jitter: 10 * time.Millisecond},
	} {
		for _, byPipe := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					l := New(Config{Up: shape})
					p := l.Pipe(nil, nil)
					defer closeBoth(p)
					a, b := p.Conns()
					hole, heal := l.BlackHole, l.Heal
					if byPipe {
						hole, heal = p.BlackHole, p.Heal
					}
					sent := random(400_000)
					mustWrite(t, a, sent[:1000])
					mustRead(t, b, sent[:1000])
					mustWrite(t, a, sent[1000:50_000]) // some of it under way
					time.Sleep(250 * time.Millisecond) // virtual
					hole()
					hole()
					arrived, _ := p.Carried()
					b.SetReadDeadline(time.Now().Add(time.Hour))
					got, err := io.ReadAll(b)
					if !errors.Is(err, os.ErrDeadlineExceeded) || len(got) != int(arrived)-1000 {
						t.Fatalf("black-holed, read %d bytes, %v; %d had arrived", len(got), err, arrived)
					}
					b.SetReadDeadline(time.Time{})
					wrote := make(chan struct{})
					go func() {
						defer close(wrote)
						mustWrite(t, a, sent[50_000:])
						a.Close()
					}()
					synctest.Wait()
					select {
					case <-wrote:
						t.Error("no back-pressure")
					default:
					}
					time.Sleep(time.Hour) // virtual: nothing comes by itself
					if now, _ := p.Carried(); now != arrived {
						t.Errorf("%d bytes came through a black hole", now-arrived)
					}
					heal()
					heal()
					start := time.Now()
					rest, err := io.ReadAll(b)
					if got = append(append(sent[:1000:1000], got...), rest...); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("after healing, %d bytes in all, %v; want %d", len(got), err, len(sent))
					}
					want := shape.duration(len(rest)) + shape.Delay
					if took := time.Since(start); took < want-time.Millisecond || took > want+shape.Jitter+shape.Delay {
						t.Errorf("%d bytes took %v after healing, want %v", len(rest), took, want)
					}
					<-wrote
				})
			})
		}
	}
}

// A black hole of the link and one of the connection are two: both must heal.
func TestHolesAddUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := new(Link)
		p := l.Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		l.Heal() // of nothing
		p.Heal()
		l.BlackHole()
		p.BlackHole()
		mustWrite(t, a, []byte("held"))
		for _, heal := range []func(){l.Heal, p.Heal} {
			if up, _ := l.Carried(); up != 0 {
				t.Error("came through before both were healed")
			}
			heal()
		}
		mustRead(t, b, []byte("held"))

		p.BlackHole()
		l.BlackHole()
		mustWrite(t, a, []byte("held"))
		p.Heal()
		if up, _ := l.Carried(); up != 4 {
			t.Error("came through before the link was healed")
		}
		l.Heal()
		mustRead(t, b, []byte("held"))
	})
}

// A closed end's news is held like any byte, and a cut ends a black hole for good.
func TestBlackHoleHoldsTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Down: Shape{Delay: time.Second}})
		p := l.Pipe(nil, nil)
		a, b := p.Conns()
		defer closeBoth(p)
		b.Close()
		l.BlackHole()
		if n := taken(t, a); n != DefaultBuffer {
			t.Errorf("took %d bytes, want %d", n, DefaultBuffer)
		}
		l.Heal()
		if _, err := io.ReadAll(a); err != nil {
			t.Errorf("Read: %v", err)
		}
		if _, err := a.Write([]byte{1}); err == nil {
			t.Error("Write works although the other end has closed")
		}
	})
}

// While one connection is held, the others have the link to themselves.
func TestHoldGivesBackTheRate(t *testing.T) {
	for name, stop := range map[string]func(*Pipe){"hold": (*Pipe).BlackHole, "cut": (*Pipe).Cut, "close": closeBoth} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := New(Config{Up: Shape{Rate: 100_000}})
				p, q := l.Pipe(nil, nil), l.Pipe(nil, nil)
				defer closeBoth(p)
				defer closeBoth(q)
				a, _ := p.Conns()
				c, d := q.Conns()
				start := time.Now()
				mustWrite(t, a, random(200_000)) // two seconds' worth, ahead of q's
				mustWrite(t, c, random(100_000))
				stop(p)
				mustRead(t, d, random(100_000))
				if took := time.Since(start); !near(took, time.Second, 100) {
					t.Errorf("took %v, want 1s", took)
				}
			})
		})
	}
}

// A heal starts afresh: what was booked on the link before the hole is void.
func TestHealStartsAfresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Up: Shape{Rate: 10_000}})
		p := l.Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		mustWrite(t, a, random(100_000))
		l.BlackHole()
		l.Heal()
		start := time.Now()
		mustRead(t, b, random(100_000))
		if took := time.Since(start); !near(took, 10*time.Second, 100) {
			t.Errorf("took %v, want 10s", took)
		}
	})
}

// Several held connections share the link fairly once it heals.
func TestHealIsFair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Up: Shape{Rate: 100_000}})
		l.BlackHole()
		var pipes []*Pipe
		for range 2 {
			p := l.Pipe(nil, nil)
			defer closeBoth(p)
			pipes = append(pipes, p)
			mustWrite(t, &p.conns[0], random(100_000))
		}
		l.Heal()
		time.Sleep(time.Second) // virtual
		for _, p := range pipes {
			if up, _ := p.Carried(); up < 50_000-minSegment || up > 50_000+minSegment {
				t.Errorf("carried %d bytes, want a half, 50000", up)
			}
		}
	})
}

func TestSetShape(t *testing.T) {
	slow, fast := Shape{Rate: 10_000}, Shape{Rate: 100_000}
	for _, tt := range []struct {
		name   string
		shapes []Shape
		every  time.Duration
		size   int
		want   time.Duration
	}{
		{"faster", []Shape{slow, fast}, time.Second, 110_000, 2 * time.Second},
		{"slower", []Shape{fast, slow}, time.Second, 110_000, 2 * time.Second},
		{"unlimited", []Shape{slow, {}}, time.Second, 110_000, time.Second},
		{"limited", []Shape{{Delay: time.Second}, slow}, time.Second, 110_000, time.Second},
		{"less delay overtakes nothing", []Shape{{Delay: time.Hour}, {}}, time.Second, 110_000, time.Hour},
		// A segment takes 1.4 s: it gets through though the shape changes under it.
		{"often", []Shape{{Rate: 1000}, {Rate: 1001}, {Rate: 1000}, {Rate: 1001}, {Rate: 1000}}, time.Second, 5000, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := New(Config{Up: tt.shapes[0]})
				p := l.Pipe(nil, nil)
				defer closeBoth(p)
				a, b := p.Conns()
				start := time.Now()
				mustWrite(t, a, random(tt.size))
				go func() {
					for _, s := range tt.shapes[1:] {
						time.Sleep(tt.every) // virtual
						l.SetShape(s, Shape{})
					}
				}()
				mustRead(t, b, random(tt.size))
				if took := time.Since(start); (took - tt.want).Abs() > 5*time.Millisecond {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				time.Sleep(10 * time.Second) // virtual: until all shapes are set
				mustWrite(t, a, []byte("later"))
				mustRead(t, b, []byte("later"))
			})
		})
	}
}

// A bigger buffer lets a waiting writer go on.
func TestSetShapeWakesWriters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Up: Shape{Buffer: 10}})
		p := l.Pipe(nil, nil)
		defer closeBoth(p)
		a, _ := p.Conns()
		done := make(chan struct{})
		go func() { mustWrite(t, a, make([]byte, 100)); close(done) }()
		synctest.Wait()
		l.SetShape(Shape{Buffer: 100}, Shape{})
		<-done
	})
}

func TestQueue(t *testing.T) {
	var q queue[int]
	next, want := 0, 0
	for range 1000 {
		for range 3 {
			q.push(next)
			next++
		}
		for range 2 {
			if got := q.pop(); got != want {
				t.Fatalf("popped %d, want %d", got, want)
			}
			want++
		}
	}
	if q.len() != 1000 || cap(q.items) > 4096 {
		t.Errorf("%d items in %d places", q.len(), cap(q.items))
	}
	q.truncate(1)
	if got := q.pop(); got != want || q.len() != 0 {
		t.Errorf("popped %d, %d left", got, q.len())
	}
}

// FuzzOperations runs a sequence of operations on a pipe and compares what
// arrives with a model: a queue of bytes that only a cut or a closed reader loses.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{0, 200, 4, 5, 1, 200, 5, 0, 1, 1, 255})
	f.Add([]byte{0, 255, 0, 255, 4, 0, 2, 255, 6, 5, 9, 5, 1, 255, 8, 1})
	f.Add([]byte{6, 3, 0, 9, 7, 3, 10, 0, 0, 9, 3, 3, 1, 9})
	f.Add([]byte{6, 200, 0, 100, 6, 7, 3, 50, 0, 100, 11, 3, 200, 1, 200})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runOperations(t, ops) })
	})
}

// model is one direction as it should be.
type model struct {
	w, r       *Conn
	sent, read []byte
	shut       bool
}

func runOperations(t *testing.T, ops []byte) {
	l := New(Config{Up: Shape{Rate: 50_000, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Buffer: 500}, Seed: 1})
	p := l.Pipe(nil, nil)
	other := l.Pipe(nil, nil) // competes for the rate
	defer closeBoth(other)
	defer closeBoth(p)
	a, b := p.Conns()
	dirs := []*model{{w: a, r: b}, {w: b, r: a}}
	cut, most := false, 0
	for i := 0; i+1 < len(ops); i += 2 {
		op, arg := ops[i], int(ops[i+1])
		d := dirs[arg%2]
		switch op % 12 {
		case 0, 1:
			d.write(t, arg*8, cut)
		case 2, 3:
			d.receive(t, arg*8, cut)
		case 4:
			l.BlackHole()
		case 5:
			l.Heal()
		case 6:
			s := Shape{Rate: int64(arg) * 300, Delay: time.Duration(arg%7) * time.Millisecond, Buffer: 500}
			l.SetShape(s, Shape{Jitter: time.Duration(arg%3) * time.Second, Buffer: 500})
		case 7:
			time.Sleep(time.Duration(arg) * time.Millisecond) // virtual
		case 8:
			if arg > 250 {
				p.Cut()
				cut = true
			}
		case 9:
			p.BlackHole()
		case 10:
			p.Heal()
		case 11:
			if err := d.w.CloseWrite(); (err != nil) != cut {
				t.Fatalf("CloseWrite: %v", err)
			}
			d.shut = true
			other.conns[0].SetWriteDeadline(time.Now())
			other.conns[0].Write(make([]byte, arg))
		}
		for side := range l.ways {
			most = max(most, l.ways[side].shape.limit())
		}
		for _, d := range dirs {
			if len(d.sent)-len(d.read) > most {
				t.Fatalf("%d bytes under way, the most allowed is %d", len(d.sent)-len(d.read), most)
			}
		}
	}
	if cut {
		return
	}
	l.Heal()
	p.Heal()
	for _, d := range dirs {
		d.w.CloseWrite()
		d.r.SetReadDeadline(time.Time{})
		rest, err := io.ReadAll(d.r)
		if err != nil {
			t.Fatalf("the rest: %v", err)
		}
		if d.read = append(d.read, rest...); !bytes.Equal(d.read, d.sent) {
			t.Fatalf("read %d bytes of %d, or others", len(d.read), len(d.sent))
		}
	}
}

func (m *model) write(t *testing.T, n int, cut bool) {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((len(m.sent) + i) * 7 / 3)
	}
	m.w.SetWriteDeadline(time.Now().Add(time.Millisecond))
	n, err := m.w.Write(b)
	m.sent = append(m.sent, b[:n]...)
	switch {
	case n > 0 && (cut || m.shut):
		t.Fatalf("wrote %d bytes after the end", n)
	case err == nil && (cut || m.shut), err != nil && !cut && !m.shut && !errors.Is(err, os.ErrDeadlineExceeded):
		t.Fatalf("Write = %d, %v (cut: %v, shut: %v)", n, err, cut, m.shut)
	case err == nil && n != len(b):
		t.Fatalf("Write = %d of %d without an error", n, len(b))
	}
}

func (m *model) receive(t *testing.T, n int, cut bool) {
	b := make([]byte, n)
	m.r.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := m.r.Read(b)
	m.read = append(m.read, b[:n]...)
	switch {
	case n > 0 && cut, cut && err == nil:
		t.Fatalf("Read = %d, %v after the cut", n, err)
	case err == io.EOF && (!m.shut || len(m.read) != len(m.sent)):
		t.Fatalf("EOF after %d of %d bytes, shut: %v", len(m.read), len(m.sent), m.shut)
	case err != nil && err != io.EOF && !cut && !errors.Is(err, os.ErrDeadlineExceeded):
		t.Fatalf("Read = %d, %v", n, err)
	case len(m.read) > len(m.sent) || !slices.Equal(m.read, m.sent[:len(m.read)]):
		t.Fatalf("read %d bytes that are not those sent (%d)", len(m.read), len(m.sent))
	}
}
