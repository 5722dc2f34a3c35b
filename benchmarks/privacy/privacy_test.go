package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The quick form is too small for the bars, but not for the order.
func TestOrder(t *testing.T) {
	accuracy := func(d *defence) float64 {
		mean, most := carry(d, quick).relays()
		if most < 0 || most > 1 {
			t.Fatalf("%s: %v of the visits told right", d.name, most)
		}
		return mean
	}
	plain, secret, unlinkable := accuracy(undefended()), accuracy(secrecy()), accuracy(unlinkability())
	t.Logf("undefended %.3f, secrecy %.3f, unlinkability %.3f", plain, secret, unlinkable)
	if plain < 0.85 {
		t.Errorf("undefended %.3f: the classifier can't tell pages", plain)
	}
	if unlinkable > plain/2 {
		t.Errorf("unlinkability %.3f is no defence beside %.3f", unlinkable, plain)
	}
	if secret < plain/2 {
		t.Errorf("secrecy %.3f hides what pages are, which it should not be able to", secret)
	}
}

func TestRunAndShow(t *testing.T) {
	tiny := scale{classes: 4, visits: 6, trees: 5, seed: 3}
	var out, again bytes.Buffer
	bars, err := run(&out, tiny)
	if err == nil || !strings.Contains(err.Error(), "at most 0.16") {
		t.Errorf("error %v: four pages can't be hidden among each other to 0.16", err)
	}
	if _, err := run(&again, tiny); err == nil || out.String() != again.String() {
		t.Errorf("one seed, two outcomes (%v):\n%s\n%s", err, &out, &again)
	}
	for _, line := range []string{"seed 3", "PRIVACY_UNDEFENDED = ", "PRIVACY_STRIPED = ", "PRIVACY_SECRECY = ", "PRIVACY_UNLINKABILITY = ", "PRIVACY_UNLINKABILITY_OVERHEAD = ", "PRIVACY_UNLINKABILITY_5_RELAYS = "} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, &out)
		}
	}
	show(&again, tiny)
	if !strings.Contains(again.String(), "batches of 20 to 30") {
		t.Error(again.String())
	}

	path := filepath.Join(t.TempDir(), "new", "p.svg")
	if err := save(path, bars, tiny); err != nil {
		t.Fatal(err)
	}
	svg, _ := os.ReadFile(path)
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
	}
	if n := bytes.Count(svg, []byte("#4477aa")); n != len(bars) {
		t.Errorf("%d bars drawn, want %d", n, len(bars))
	}
	if err := draw(full0{}, bars, 0.16, ""); err == nil {
		t.Error("a disk that is full is no error")
	}
}

type full0 struct{}

func (full0) Write([]byte) (int, error) { return 0, errors.New("full") }

// Everything that was asked for arrives, whatever carries it, and the links see
// at least the bytes of the page.
func TestLoadCarriesAll(t *testing.T) {
	page := newSite(rand.New(rand.NewPCG(1, 2))).visit(rand.New(rand.NewPCG(3, 4)))
	up, down := 0, 0
	for _, o := range page {
		up += o.request
		down += o.response
	}
	for _, d := range []*defence{undefended(), striped(), secrecy(), split(), unlinkability()} {
		t.Run(d.name, func(t *testing.T) {
			got := [2]int{}
			for relay, seen := range load(d, page, 5) {
				for _, s := range seen {
					if d.cell > 0 && s.size != int32(d.cell) && s.size != -int32(d.cell) {
						t.Fatalf("relay %d saw a frame of %d bytes", relay, s.size)
					}
					if s.size > 0 {
						got[client] += int(s.size)
					} else {
						got[server] -= int(s.size)
					}
				}
			}
			if got[client] < up || got[server] < down || float64(got[server]) > 2*float64(down)+64<<10 {
				t.Fatalf("%d bytes up and %d down seen, of %d and %d", got[client], got[server], up, down)
			}
		})
	}
}

// The forest learns what can be learnt, and no more.
func TestForest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	make := func(n int, signal float64) (s []sample) {
		for i := range n {
			c := i % 4
			f := []float64{r.NormFloat64(), signal*float64(c) + r.NormFloat64(), 7, r.NormFloat64()}
			s = append(s, sample{f, c})
		}
		return s
	}
	if a := train(make(400, 8), 4, 30, 1).accuracy(make(400, 8)); a < 0.97 {
		t.Errorf("told %.3f of what is plain", a)
	}
	if a := train(make(4, 0), 4, 1, 1).accuracy(nil); a != 0 {
		t.Errorf("told %v of nothing", a)
	}
	if a := train(make(400, 0), 4, 30, 1).accuracy(make(400, 0)); math.Abs(a-0.25) > 0.08 {
		t.Errorf("told %.3f of noise, want 0.25", a)
	}
	same := []sample{{[]float64{1}, 0}, {[]float64{1}, 1}, {[]float64{1}, 1}, {[]float64{1}, 1}}
	if c := train(same, 2, 31, 1).classify([]float64{1}); c != 1 {
		t.Errorf("of samples that are all alike, the rarer class %d", c)
	}
}

func TestFeatures(t *testing.T) {
	seen := []sight{{time.Second, 536}, {2 * time.Second, -536}, {2500 * time.Millisecond, -536}, {4 * time.Second, 536}}
	f := features(seen)
	for i, want := range []float64{4, 2, 2, 0.5, 0.5, 1.5, 0.5, 1, 1, 2, 3} { // counts, fractions, order of the inbound
		if f[i] != want {
			t.Errorf("feature %d is %v, want %v", i, f[i], want)
		}
	}
	for i := range seen {
		seen[i].at += time.Hour
	}
	if !slices.Equal(f, features(seen)) {
		t.Error("features tell when the visit was")
	}
	for n := range seen {
		if got := features(seen[:n]); len(got) != len(f) || slices.ContainsFunc(got, math.IsNaN) {
			t.Errorf("%d features of %d frames, want %d numbers: %v", len(got), n, len(f), got)
		}
	}
}
