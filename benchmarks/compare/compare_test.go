package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		sorted []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.5, 7},
		{[]float64{1, 2, 9}, 0.5, 2},
		{[]float64{1, 2, 4, 9}, 0.5, 3},
		{[]float64{1, 2, 4, 9}, 1, 9},
		{[]float64{1, 2, 4, 9}, 0, 1},
		{[]float64{0, 100}, 0.99, 99},
	} {
		if got := quantile(c.sorted, c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.sorted, c.q, got, c.want)
		}
	}
}

// some makes samples of one figure of one system.
func some(kase, system, unit string, values ...float64) (ss []sample) {
	for i, v := range values {
		ss = append(ss, sample{Case: kase, System: system, Round: i, Figures: figures{unit: v}})
	}
	return ss
}

func TestSummary(t *testing.T) {
	ss := some("bulk-out", "tls", rate, 3, 1, 2, 100)
	ss = append(ss, sample{Case: "bulk-out", System: "tls", Error: "broke"})
	for _, c := range []struct {
		noisy []int
		want  spread
	}{
		{nil, spread{Min: 1, Median: 2.5, Max: 100, N: 4}},
		{[]int{0, 3}, spread{Min: 1, Median: 1.5, Max: 2, N: 2}},
		{[]int{0, 1, 2, 3}, spread{Min: 1, Median: 2.5, Max: 100, N: 4, Noisy: true}},
	} {
		of := slices.Clone(ss)
		for _, i := range c.noisy {
			of[i].Noisy = true
		}
		if got := summarise(of)[subject{"bulk-out", "tls", rate}]; got != c.want {
			t.Errorf("noisy %v: %+v, want %+v", c.noisy, got, c.want)
		}
	}
}

func TestBars(t *testing.T) {
	sum := summarise(slices.Concat(
		some("bulk-out", meshWS, rate, 900, 1000, 5000), some("bulk-out", "libp2p-ws", rate, 1, 400, 401),
		some("idle", meshWS, memory, 32.5), some("dials", meshWS, failures, 0, 0),
		some("bulk-out", "tls", rate, 0),
	))
	loud := sum[subject{"idle", meshWS, memory}]
	loud.Noisy = true
	sum[subject{"idle", meshWS, memory}] = loud
	for _, c := range []struct{ name, want string }{
		{"WS_OVER_LIBP2P_WS_OUT", "ratio WS_OVER_LIBP2P_WS_OUT = 2.5 (bar ≥ 2.5) ok"},
		{"IDLE_KIB", "value IDLE_KIB = 32.5 (bar ≤ 32) SHORT noisy"},
		{"DIAL_FAILURES", "value DIAL_FAILURES = 0 (bar ≤ 0) ok"},
		{"WS_OVER_LIBP2P_WS_BACK", ""}, // neither was sampled
		{"WS_OVER_LIBP2P_TCP_OUT", ""}, // one was not
		{"WS_OVER_TLS_OUT", ""},        // nothing divides by 0
	} {
		b := barNamed(c.name)
		got := ""
		if x, ok := b.of(sum); ok {
			got = b.line(x, b.noisy(sum))
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestBarsAreMeasured: what the bars speak of is sampled, and is what quick
// runs sample.
func TestBarsAreMeasured(t *testing.T) {
	ps := pairings(true, nil)
	for _, b := range bars {
		for _, of := range []*subject{&b.over, b.by} {
			if of != nil && !slices.ContainsFunc(ps, func(p pairing) bool { return p.kase.name == of.kase && p.system.name == of.system }) {
				t.Errorf("%s: no quick run samples %s of %s", b.name, of.kase, of.system)
			}
		}
	}
	for _, p := range ps {
		if !needed(p) {
			t.Errorf("a quick run samples %v, which no bar needs", p)
		}
	}
	if all := pairings(false, nil); len(all) <= len(ps) {
		t.Errorf("a full run has %d pairings, a quick one %d", len(all), len(ps))
	}
	if only := pairings(true, regexp.MustCompile(`^write-1/ws$`)); len(only) != 1 {
		t.Errorf("-only picks %v", only)
	}
}

func TestParseFloors(t *testing.T) {
	for text, wrong := range map[string]string{
		`{"IDLE_KIB": 64, "WS_OVER_TLS_OUT": 0.3}`: "",
		`{}`:                "",
		`{"IDLE": 64}`:      "no bar is called",
		`{"IDLE_KIB": "a"}`: "cannot unmarshal",
		`{} {}`:             "follows",
		``:                  "EOF",
	} {
		_, err := parseFloors([]byte(text))
		if got := errors.Join(err); (wrong == "") != (err == nil) || err != nil && !strings.Contains(got.Error(), wrong) {
			t.Errorf("%s: %v, want %q", text, err, wrong)
		}
	}
	if _, err := readFloors("../floors.json"); err != nil {
		t.Error(err)
	}
}

func TestBroken(t *testing.T) {
	sum := summarise(slices.Concat(
		some("bulk-out", meshWS, rate, 300), some("bulk-out", "tls", rate, 1000), some("idle", meshWS, memory, 65),
	))
	f := floors{"WS_OVER_TLS_OUT": 0.3, "IDLE_KIB": 64, "DIAL_FAILURES": 0}
	for _, c := range []struct {
		some bool
		want []string
	}{
		{false, []string{"DIAL_FAILURES was not measured", "IDLE_KIB = 65 is worse than its floor of 64"}},
		{true, []string{"IDLE_KIB = 65 is worse than its floor of 64"}},
	} {
		if got, _ := f.broken(sum, c.some); !slices.Equal(got, c.want) {
			t.Errorf("some=%v: %q, want %q", c.some, got, c.want)
		}
	}
	if got, _ := (floors{"WS_OVER_TLS_OUT": 0.31}).broken(sum, true); len(got) != 1 || !strings.Contains(got[0], "worse") {
		t.Errorf("a floor above what was measured: %q", got)
	}
}

// fake takes samples during which others use so much of the machine, in turn.
func fake(t *testing.T, only string, others ...float64) (*run, *[]string) {
	t.Helper()
	var taken []string
	return &run{
		pairings: pairings(false, regexp.MustCompile(only)), rounds: 1, progress: io.Discard, retakes: time.Hour,
		wait: func(context.Context, time.Duration) {},
		take: func(_ context.Context, o order, _ []string) sample {
			taken = append(taken, o.Case+"/"+o.System)
			s := sample{Case: o.Case, System: o.System, Figures: figures{rate: float64(len(taken))}}
			s.Others, others = others[0], append(others[1:], others[0])
			return s
		},
	}, &taken
}

func TestNoise(t *testing.T) {
	for _, c := range []struct {
		what   string
		only   string
		others []float64
		again  time.Duration
		taken  int
		noisy  bool
	}{
		{"quiet at once", "^bulk-out/tls$", []float64{0.1}, time.Hour, 1, false},
		{"quiet in the end", "^bulk-out/tls$", []float64{0.5, 0.2, 0.05}, time.Hour, 3, false},
		{"never quiet", "^bulk-out/tls$", []float64{0.11}, time.Hour, tries, true},
		{"no time left", "^bulk-out/tls$", []float64{0.5, 0}, 0, 1, true},
		{"of no consequence", "^idle/tls$", []float64{0.9}, time.Hour, 1, false},
	} {
		r, taken := fake(t, c.only, c.others...)
		r.retakes = c.again
		r.all(t.Context())
		if len(*taken) != c.taken || len(r.samples) != 1 || r.samples[0].Noisy != c.noisy {
			t.Errorf("%s: taken %d times, %+v", c.what, len(*taken), r.samples)
		}
		if c.taken > 1 && r.samples[0].Figures[rate] != float64(c.taken) {
			t.Errorf("%s: what is kept is not the last", c.what)
		}
	}
}

func TestRounds(t *testing.T) {
	r, taken := fake(t, "^(bulk-out|idle)/(tls|ws|splitmesh-ws)$", 0)
	r.rounds = 3
	r.all(t.Context())
	there := "bulk-out/tls bulk-out/ws bulk-out/splitmesh-ws"
	back := "bulk-out/splitmesh-ws bulk-out/ws bulk-out/tls"
	want := there + " idle/tls idle/ws idle/splitmesh-ws " + back + " idle/splitmesh-ws idle/ws idle/tls " + there
	if got := strings.Join(*taken, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if last := r.samples[len(r.samples)-1]; last.Round != 2 {
		t.Errorf("the last sample is of round %d", last.Round)
	}
}

// TestSecondThoughts: what fell through a floor is sampled again, alone, and
// counts with what was sampled before.
func TestSecondThoughts(t *testing.T) {
	for _, c := range []struct {
		floor float64
		taken int // of rates 1, 2 and so on
	}{{3, 3}, {4, 7}} {
		r, taken := fake(t, "^bulk-out/(tls|ws|splitmesh-ws)$", 0)
		r.all(t.Context())
		r.secondThoughts(t.Context(), floors{"WS_OVER_TLS_OUT": c.floor}, true)
		if len(*taken) != c.taken {
			t.Errorf("a floor of %v: %v were taken, want %d", c.floor, *taken, c.taken)
		}
	}
}

// TestInterrupted: what was taken before stays, what was interrupted doesn't.
func TestInterrupted(t *testing.T) {
	r, taken := fake(t, "^bulk-out/", 0)
	ctx, cancel := context.WithCancel(t.Context())
	inner := r.take
	r.take = func(ctx context.Context, o order, env []string) sample {
		if len(*taken) == 2 {
			cancel()
		}
		return inner(ctx, o, env)
	}
	r.all(ctx)
	if len(r.samples) != 2 {
		t.Errorf("%d samples are left, want 2", len(r.samples))
	}
}

// TestLoad: bytes arrive as they were sent, or it is told.
func TestLoad(t *testing.T) {
	pattern := make([]byte, 1000+period)
	for i := range pattern {
		pattern[i] = byte(i % period)
	}
	for _, c := range []struct {
		what  string
		spoil func([]byte) []byte
		wrong string
	}{
		{"as sent", func(p []byte) []byte { return p }, ""},
		{"a byte too many", func(p []byte) []byte { return append([]byte{p[0]}, p...) }, "not what was sent"},
		{"a byte lost", func(p []byte) []byte { return p[1:] }, "not what was sent"},
	} {
		from, to := net.Pipe()
		for _, end := range []net.Conn{from, to} { // so that it fails rather than hangs
			end.SetDeadline(time.Now().Add(10 * time.Second))
		}
		l := &load{
			from: []stream{spoiler{from, c.spoil}}, to: []stream{to},
			size: 1000, pattern: pattern, buffers: [][]byte{make([]byte, 4096)},
		}
		_, err := l.move(10_500)
		to.Close()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// A spoiler changes what is written.
type spoiler struct {
	net.Conn
	spoil func([]byte) []byte
}

func (s spoiler) Write(p []byte) (int, error) {
	if _, err := s.Conn.Write(s.spoil(bytes.Clone(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func TestReport(t *testing.T) {
	ss := slices.Concat(some("bulk-out", "tls", rate, 1000), some("bulk-out", "libp2p-quic", writesMB, 5), some("bulk-out", "libp2p-quic", rate, 500))
	ss[0].Noisy = true
	r := &run{pairings: pairings(false, regexp.MustCompile("^bulk-out/(tls|ws|libp2p-quic)$")), samples: ss, progress: io.Discard}
	var out bytes.Buffer
	o := options{out: t.TempDir(), only: regexp.MustCompile(".")}
	if err := r.report(o, nil, machine{}, nil, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`tls +1000 +1000 +1000 +- +1 noisy`, `ws +none`, `libp2p-quic +500 +500 +500 +- +1\s`, `1 are noisy`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%q is not in\n%s", want, out.Bytes())
		}
	}
	// ws/tls 0.1 is worse than its floor: a failure unless tls was noisy in all samples.
	r.samples = append(r.samples, some("bulk-out", meshWS, rate, 100)...)
	r.progress = new(bytes.Buffer)
	under := floors{"WS_OVER_TLS_OUT": 0.3}
	if err := r.report(o, under, machine{}, nil, io.Discard); err != nil || !strings.Contains(r.progress.(*bytes.Buffer).String(), "not taken") {
		t.Errorf("a noisy figure under its floor: %v, %s", err, r.progress)
	}
	r.samples[0].Noisy = false
	if err := r.report(o, under, machine{}, nil, io.Discard); err == nil {
		t.Error("a figure under its floor is no failure")
	}
	r.samples = append(r.samples[:1], sample{Case: "bulk-out", System: "ws", Error: "broke"})
	if err := r.report(o, nil, machine{}, nil, io.Discard); err == nil {
		t.Error("a failed sample is no failure")
	}
}
