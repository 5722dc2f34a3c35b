package splitter

import (
	"testing"
	"time"
)

func TestRescue(t *testing.T) {
	on := Path{InFlight: 1 << 16, Window: 1 << 18, SRTT: 20 * ms, RTTVar: ms, MinRTT: 20 * ms, Rate: 12.5e6}
	near := Path{Window: 1 << 18, SRTT: 10 * ms, MinRTT: 10 * ms, Rate: 12.5e6}
	far := Path{Window: 1 << 18, SRTT: 100 * ms, MinRTT: 100 * ms, Rate: 12.5e6}
	varied := on
	varied.RTTVar = 20 * ms
	full := near
	full.InFlight = full.Window
	barred := near
	barred.Barred = true
	tests := []struct {
		name  string
		paths []Path
		on    int
		after time.Duration
		want  int
	}{
		{"not late", []Path{on, near}, 0, 28 * ms, -1},
		{"not late on a path that varies", []Path{varied, near}, 0, 80 * ms, -1},
		{"late", []Path{on, near}, 0, 31 * ms, 1},
		{"the nearest", []Path{far, near, on}, 2, 200 * ms, 1},
		{"a far path is no help yet", []Path{on, far}, 0, 60 * ms, -1},
		{"but it is in the end", []Path{on, far}, 0, 90 * ms, 1},
		{"none is open", []Path{on, full, barred}, 0, time.Second, -1},
		{"alone", []Path{on}, 0, time.Second, -1},
		{"its path is gone", []Path{far, near}, -1, 0, 1},
		{"its path is not measured", []Path{{InFlight: 1, Window: 1 << 18}, near}, 0, time.Second, -1},
	}
	now := time.Unix(1e9, 0)
	for _, test := range tests {
		got := Rescue(now, Late{On: test.on, Sent: now.Add(-test.after), Size: 32 << 10}, test.paths)
		if got != test.want {
			t.Errorf("%s: path %d, want %d", test.name, got, test.want)
		}
	}
}

func TestRedundancy(t *testing.T) {
	var r Redundancy
	resent := 0
	for range 10_000 {
		r.Sent(32 << 10)
		for r.Allow(1 << 10) {
			r.Resent(1 << 10)
			resent += 1 << 10
		}
	}
	if most := redundancyStart + 10_000*(32<<10)*3/100; resent > most || resent < most-(2<<10) {
		t.Errorf("%d bytes sent again, want nearly %d", resent, most)
	}
	if r.Allow(1 << 20) {
		t.Error("more is allowed than there is")
	}
}
