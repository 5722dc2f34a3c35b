package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{none: "–", 0: "0", 10000: "10000", 2.5: "2.50", 31.25: "31.2", 1234.5: "1234", -0.25: "-0.25"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var ms []time.Duration
	for i := range 101 {
		ms = append(ms, time.Duration(i)*time.Millisecond)
	}
	for _, tt := range []struct {
		of   []time.Duration
		q    float64
		want float64
	}{{nil, 0.5, none}, {ms[7:8], 0.99, 7}, {ms, 0.5, 50}, {ms, 0.99, 99}, {ms, 1, 100}} {
		if got := quantile(tt.of, tt.q); got != tt.want {
			t.Errorf("quantile %v of %d is %v, want %v", tt.q, len(tt.of), got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	most, least := bar{"A", "k", 1, "KiB", true, 32, 0}, bar{"B", "k", 1, "that echo", false, 32, 0}
	for _, tt := range []struct {
		bar  bar
		rows [][]float64
		want string
	}{
		{most, nil, ""},
		{most, [][]float64{{1, 99}, {10, 31.25}}, "A = 31.2 KiB, of 10 (bar ≤ 32) ok"},
		{most, [][]float64{{10, 33}}, "A = 33 KiB, of 10 (bar ≤ 32) SHORT"},
		{least, [][]float64{{10, 32}}, "B = 32 that echo, of 10 (bar ≥ 32) ok"},
		{bar{"C", "k", 1, "s", true, none, 0.5}, [][]float64{{10, 31}}, "C = 15.5 s, of 10 (no bar)"},
		{least, [][]float64{{10, 31}}, "B = 31 that echo, of 10 (bar ≥ 32) SHORT"},
	} {
		if got := tt.bar.judge([]*table{{Name: "other", Rows: [][]float64{{1, 1}}}, {Name: "k", Rows: tt.rows}}); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestSizesFor(t *testing.T) {
	for _, tt := range []struct {
		only string
		max  int
		want []int
	}{{"", 1e9, []int{1, 10, 100}}, {"^k$", 10, []int{1, 10}}, {"x", 10, nil}, {"", 0, nil}} {
		o := options{only: regexp.MustCompile(tt.only), max: tt.max}
		if got := o.sizesFor(kase{name: "k", sizes: []int{1, 10, 100}}); !slices.Equal(got, tt.want) {
			t.Errorf("%q up to %d: %v, want %v", tt.only, tt.max, got, tt.want)
		}
	}
}

func TestEach(t *testing.T) {
	var sum atomic.Int64
	if err := each(context.Background(), 100, 7, func(i int) error { sum.Add(int64(i)); return nil }); err != nil || sum.Load() != 4950 {
		t.Errorf("%v after %d, want none after 4950", err, sum.Load())
	}
	broken := errors.New("broken")
	if err := each(context.Background(), 100, 7, func(i int) error {
		if i == 20 {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

func TestIntoDoc(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := intoDoc("", "new"); err != nil {
		t.Error(err)
	}
	for page, want := range map[string]string{
		"a\n" + docBegin + "\nold\n" + docEnd + "\nb\n": "a\n" + docBegin + "\nnew\n" + docEnd + "\nb\n",
		"a\n" + docBegin + "\nold\n":                    "",
		docEnd + "\n":                                   "",
	} {
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		err := intoDoc(file, "new\n")
		got, _ := os.ReadFile(file)
		if want == "" && (err == nil || string(got) != page) || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%q became %q, %v, want %q", page, got, err, want)
		}
	}
}

// TestColumns: rows, bars and the chart agree about what there is.
func TestColumns(t *testing.T) {
	var tables []*table
	columns := make(map[string]int)
	for _, k := range kases {
		columns[k.name] = len(k.columns)
		row := make([]float64, len(k.columns))
		for i := range row {
			row[i] = float64(i + 1)
		}
		tables = append(tables, &table{Name: k.name, Columns: k.columns, Rows: [][]float64{row}})
	}
	for _, b := range bars {
		if b.column >= columns[b.kase] {
			t.Errorf("%s has no column %d", b.kase, b.column)
		}
	}
	for _, p := range panels {
		for _, c := range p.curves {
			if c.column >= columns[c.kase] {
				t.Errorf("%s has no column %d", c.kase, c.column)
			}
		}
	}
	for _, tables := range [][]*table{tables, nil} {
		if svg, err := chart(tables); err != nil || !bytes.Contains(svg, []byte("</svg>")) {
			t.Errorf("the chart of %d tables: %v", len(tables), err)
		}
	}
}
