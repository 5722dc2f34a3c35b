package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A machine is where and with what a run took place.
type machine struct {
	Date    string            `json:"date"`
	CPU     string            `json:"cpu"`
	CPUs    int               `json:"cpus"`
	OS      string            `json:"os"`
	Kernel  string            `json:"kernel"`
	Go      string            `json:"go"`
	Modules map[string]string `json:"modules"` // those compared with
}

func thisMachine(now time.Time) machine {
	m := machine{
		Date: now.UTC().Format(time.RFC3339), CPU: cpuModel(), CPUs: runtime.NumCPU(),
		OS: runtime.GOOS + "/" + runtime.GOARCH, Kernel: kernel(), Go: runtime.Version(), Modules: make(map[string]string),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "github.com/libp2p/go-libp2p", "github.com/coder/websocket", "github.com/quic-go/quic-go",
				"golang.zx2c4.com/wireguard", "github.com/flynn/noise", "github.com/libp2p/go-yamux/v5":
				m.Modules[d.Path] = d.Version
			}
		}
	}
	return m
}

// A record is a run as it is kept.
type record struct {
	Machine machine            `json:"machine"`
	Quick   bool               `json:"quick"`
	Rounds  int                `json:"rounds"`
	Whole   bool               `json:"whole"` // nothing of what is usual was left out
	Ratios  map[string]float64 `json:"ratios"`
	Missing map[string]string  `json:"missing,omitempty"` // systems that could not run, and why
	Samples []sample           `json:"samples"`
}

func (r *record) write(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(file, append(text, '\n'))
}

// writeFile writes a file for others to read, and makes its directory.
func writeFile(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// printTable prints for each case its systems, each figure as the median and
// around the first what it lay between.
func printTable(out io.Writer, ps []pairing, sum summary) {
	for i := 0; i < len(ps); {
		k := ps[i].kase
		var of []*system
		for ; i < len(ps) && ps[i].kase == k; i++ {
			of = append(of, ps[i].system)
		}
		fmt.Fprintf(out, "\n%s: %s\n", k.name, k.about)
		printCase(out, k, of, sum)
	}
}

func printCase(out io.Writer, k *kase, of []*system, sum summary) {
	shown := columns(k, of, sum)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\tmin\tmax\t%s\tsamples\t\n", k.unit, strings.Join(shown, "\t"))
	for _, s := range of {
		main, ok := sum[subject{k.name, s.name, k.unit}]
		if !ok {
			fmt.Fprintf(t, "%s\tnone\t\n", s.name)
			continue
		}
		row := []string{s.name, number(main.Median), number(main.Min), number(main.Max)}
		for _, unit := range shown {
			text := "-"
			if f, ok := sum[subject{k.name, s.name, unit}]; ok && !(s.udp && unit == writesMB) {
				text = number(f.Median)
			}
			row = append(row, text)
		}
		of := strconv.Itoa(main.N)
		if main.Noisy {
			of += " noisy"
		}
		row = append(row, of)
		fmt.Fprintf(t, "%s\t\n", strings.Join(row, "\t"))
	}
	t.Flush()
}

// columns are the units beside the case's own that any of its systems has.
func columns(k *kase, of []*system, sum summary) (shown []string) {
	for _, unit := range units {
		for _, s := range of {
			if _, ok := sum[subject{k.name, s.name, unit}]; ok && unit != k.unit {
				shown = append(shown, unit)
				break
			}
		}
	}
	return shown
}

// printBars prints the last lines of a run, and returns their figures.
func printBars(out io.Writer, sum summary, some bool) map[string]float64 {
	found := make(map[string]float64)
	fmt.Fprintln(out)
	for i := range bars {
		b := &bars[i]
		x, ok := b.of(sum)
		switch {
		case ok:
			found[b.name] = x
			fmt.Fprintln(out, b.line(x, b.noisy(sum)))
		case !some:
			fmt.Fprintf(out, "ratio %s was not measured\n", b.name)
		}
	}
	return found
}
