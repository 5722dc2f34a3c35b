package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// none is what could not be measured.
const none = -1

// A table is what a case found, a row for each size.
type table struct {
	Name    string      `json:"name"`
	About   string      `json:"about"`
	Columns []string    `json:"columns"`
	Rows    [][]float64 `json:"rows"`
}

// A machine is where a run took place.
type machine struct {
	Date string `json:"date"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Go   string `json:"go"`
}

func thisMachine(now time.Time) machine {
	return machine{now.UTC().Format(time.RFC3339), runtime.NumCPU(), runtime.GOOS + "/" + runtime.GOARCH, runtime.Version()}
}

// markdown is the table as Markdown has it.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s.\n\n| %s |\n|%s\n", t.Name, t.About, strings.Join(t.Columns, " | "), strings.Repeat("---:|", len(t.Columns)))
	for _, row := range t.Rows {
		for _, v := range row {
			b.WriteString("| " + number(v) + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// number prints whole numbers whole, and others with about three digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == none:
		return "–"
	case v == math.Trunc(v) || a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// report prints and writes what was found.
func report(o options, here machine, tables []*table, out io.Writer) error {
	md := fmt.Sprintf("%d CPUs, %s, %s, %s\n", here.CPUs, here.OS, here.Go, here.Date)
	for _, t := range tables {
		md += "\n" + t.markdown()
	}
	var verdicts []string
	for _, b := range bars {
		if line := b.judge(tables); line != "" {
			verdicts = append(verdicts, line)
		}
	}
	fmt.Fprintf(out, "%s\n%s\n", md, strings.Join(verdicts, "\n"))
	if len(verdicts) > 0 {
		md += "\n```\n" + strings.Join(verdicts, "\n") + "\n```\n"
	}
	if err := intoDoc(o.doc, md); err != nil {
		return err
	}
	if o.out == "" {
		o.say("not a whole run: no record was written; -out DIRECTORY writes one")
		return nil
	}
	record, err := json.MarshalIndent(map[string]any{"machine": here, "tables": tables, "bars": verdicts}, "", "\t")
	if err != nil {
		return err
	}
	svg, err := chart(tables)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(o.out, "scale.json"), append(record, '\n'), 0o600),
		os.WriteFile(filepath.Join(o.out, "scale.md"), []byte(md), 0o600),
		os.WriteFile(filepath.Join(o.out, "scale.svg"), svg, 0o600),
	)
}

// What is between these lines of a page is the report's.
const (
	docBegin = "<!-- scale: begin -->"
	docEnd   = "<!-- scale: end -->"
)

// intoDoc puts the report into a page, if there is a file for one.
func intoDoc(file, md string) error {
	if file == "" {
		return nil
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(page), docBegin+"\n")
	_, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %s and %s to put the tables between", file, docBegin, docEnd)
	}
	return os.WriteFile(file, []byte(head+docBegin+"\n"+md+docEnd+tail), 0o600)
}

// A curve is a column of a case over its size.
type curve struct {
	kase   string
	column int
	name   string
}

var panels = []struct {
	title  string
	log    bool
	curves []curve
}{
	{"memory, KiB", true, []curve{{"sessions", 1, "a side of an idle session"}, {"streams", 2, "a side of an idle stream"}, {"circuits", 2, "a circuit at its relay"}, {"sides", 4, "a session where it was dialled"}}},
	{"CPU", false, []curve{{"sessions", 4, "ms/s of 1,000 idle sessions"}, {"paths", 2, "s/GB over so many paths"}}},
	{"p99 of an echo, ms", false, []curve{{"sessions", 6, "idle sessions"}, {"streams", 4, "busy streams"}, {"circuits", 7, "circuits, a tenth busy"}, {"relays", 3, "relays, 64 busy circuits"}}},
	{"MB/s", false, []curve{{"streams", 1, "streams"}, {"paths", 1, "paths"}, {"circuits", 5, "circuits"}, {"relays", 1, "relays"}}},
}

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
}

// chart draws the panels two by two, as an SVG file.
func chart(tables []*table) ([]byte, error) {
	plots := make([][]*plot.Plot, 2)
	for i, of := range panels {
		p := plot.New()
		p.Title.Text = of.title
		for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
			f.Typeface, f.Variant = "Liberation", "Sans"
		}
		p.Title.TextStyle.Font.Size = 11
		p.Legend.Top, p.Legend.Padding = true, 2
		p.X.Label.Text = "how many"
		p.Add(plotter.NewGrid())
		for j, c := range of.curves {
			xys := c.points(tables)
			if len(xys) == 0 {
				continue
			}
			line, points, err := plotter.NewLinePoints(xys)
			if err != nil {
				return nil, err
			}
			line.Color, line.Width, points.Color, points.Shape = palette[j], vg.Points(1.2), palette[j], draw.CircleGlyph{}
			p.Add(line, points)
			p.Legend.Add(c.name, line)
		}
		p.X.Min, p.X.Max, p.X.Scale, p.X.Tick.Marker = 1, max(10, p.X.Max), plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min, p.Y.Max = 0, max(1e-3, 1.4*p.Y.Max) // room for the legend
		if of.log {
			p.Y.Min, p.Y.Max, p.Y.Scale, p.Y.Tick.Marker = 0.1, max(1e5, p.Y.Max), plot.LogScale{}, plot.LogTicks{Prec: -1}
		}
		plots[i/2] = append(plots[i/2], p)
	}
	canvas := vgsvg.New(24*vg.Centimeter, 17*vg.Centimeter)
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: 12, PadY: 12, PadTop: 4, PadRight: 8}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		for j, c := range row {
			plots[i][j].Draw(c)
		}
	}
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}

// points leaves out what could not be measured, or was lost in noise.
func (c curve) points(tables []*table) (xys plotter.XYs) {
	for _, t := range tables {
		for _, row := range t.Rows {
			if t.Name == c.kase && row[c.column] > 0 {
				xys = append(xys, plotter.XY{X: row[0], Y: row[c.column]})
			}
		}
	}
	return xys
}
