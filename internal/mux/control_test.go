package mux

import (
	"errors"
	"strings"
	"testing"
)

func TestPing(t *testing.T) {
	r := newRaw(t, Config{})
	for i := range uint32(1000) {
		r.in(header{kind: typePing, flags: flagSYN, length: i})
	}
	var want []any
	for i := range uint32(maxPongs) {
		want = append(want, header{kind: typePing, flags: flagACK, length: 1000 - maxPongs + i})
	}
	r.out(want...)
}

func TestGoAway(t *testing.T) {
	r := newRaw(t, Config{})
	s, _ := r.Open()
	r.in(window(1, flagSYN, 0))
	peer := r.accept()
	r.in(header{kind: typeGoAway})
	if _, err := r.Open(); err != ErrGoAway {
		t.Errorf("Open: %v", err)
	}
	r.GoAway()
	r.GoAway()
	r.in(window(3, flagSYN, 0))
	r.out(header{kind: typeGoAway}, window(3, flagRST, 0), window(2, flagSYN, 0), window(1, flagACK, 0))
	// The streams that live go on.
	r.in(data(2, flagACK, 1), "x", data(1, 0, 1), "y")
	for _, s := range []*Stream{s, peer} {
		if n, err := s.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
	}
	for code, what := range map[uint32]string{goAwayProtocol: "we broke", goAwayInternal: "internal"} {
		err := newRaw(t, Config{}).Input(encode(header{kind: typeGoAway, length: code}), nil)
		if gerr := new(GoAwayError); !errors.As(err, &gerr) || gerr.Code != code || !strings.Contains(err.Error(), what) {
			t.Errorf("go-away %d: %v", code, err)
		}
	}
}

// A peer that floods and never reads is cut off, and costs little until then.
func TestFlood(t *testing.T) {
	opens := func(flags uint16) func(i uint32) []any {
		return func(i uint32) []any { return []any{window(2*i+1, flags, 0)} }
	}
	for _, tt := range []struct {
		name   string
		accept func(*Stream)
		frames func(i uint32) []any
		cut    bool
	}{
		{"streams refused", nil, opens(flagSYN), true},
		{"streams closed", func(s *Stream) { s.Close() }, func(i uint32) []any { return []any{data(2*i+1, flagSYN|flagFIN, 0)} }, true},
		{"streams reset", (*Stream).Reset, opens(flagSYN), true},
		{"streams given up", func(*Stream) {}, opens(flagSYN | flagRST), false},
		{"pings", nil, func(i uint32) []any { return []any{header{kind: typePing, flags: flagSYN, length: i}} }, false},
		{"empty frames", func(*Stream) {}, func(i uint32) []any {
			if i == 0 {
				return []any{window(1, flagSYN, 0)}
			}
			return []any{data(1, 0, 0), window(1, 0, 0)}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRaw(t, Config{MaxIncoming: 100})
			r.cfg.Accept = tt.accept
			var err error
			for i := uint32(0); i < 4*maxRefused && err == nil; i++ {
				err = r.Input(encode(tt.frames(i)...), nil)
				if n := len(r.ctl.dirty) + len(r.ctl.refused) + len(r.ctl.pongs); n > maxRefused+100 {
					t.Fatalf("%d control frames wait", n)
				}
			}
			if perr := new(ProtocolError); errors.As(err, &perr) != tt.cut {
				t.Errorf("Input: %v", err)
			}
			if n := r.NumStreams(); n > 100 {
				t.Errorf("%d streams live", n)
			}
		})
	}
}

// AppendControl appends whole frames within max, and each frame once.
func TestAppendControlMax(t *testing.T) {
	r := newRaw(t, Config{MaxIncoming: 3})
	r.in(window(1, flagSYN, 0), window(3, flagSYN, 0), window(5, flagSYN, 0), window(7, flagSYN, 0), window(9, flagSYN, 0),
		header{kind: typePing, flags: flagSYN, length: 1}, header{kind: typePing, flags: flagSYN, length: 2})
	r.GoAway()
	var got []byte
	for _, max := range []int{0, 11, 12, 13, 23, 36, 24, 1000, 1000} {
		before := len(got)
		if got = r.AppendControl(got, max); len(got)-before > max || len(got)%HeaderSize != 0 {
			t.Fatalf("max %d: %d bytes", max, len(got)-before)
		}
	}
	want := encode(header{kind: typeGoAway}, header{kind: typePing, flags: flagACK, length: 1}, header{kind: typePing, flags: flagACK, length: 2},
		window(7, flagRST, 0), window(9, flagRST, 0), window(1, flagACK, 0), window(3, flagACK, 0), window(5, flagACK, 0))
	if string(got) != string(want) {
		t.Errorf("appended\n%x\nwant\n%x", got, want)
	}
}
