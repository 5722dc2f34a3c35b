package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A series is one line of a chart.
type series struct {
	name   string
	points []point
	of     func(point) float64
}

func hops(p point) float64    { return p.hops }
func hops99(p point) float64  { return p.hops99 }
func success(p point) float64 { return 100 * p.success }

// draw draws what was found against the number of nodes and the part of them that lies.
func (l *lab) draw() error {
	if err := os.MkdirAll(l.options.out, 0o755); err != nil {
		return err
	}
	caption := fmt.Sprintf("%d nodes, seed %d", l.nodes, l.seed)
	for _, c := range []struct {
		file, title, x, y string
		log               bool
		lines             []series
	}{
		{"hops.svg", "Hops to a record, seed " + fmt.Sprint(l.seed), "nodes", "hops", true, []series{{"mean", l.curves["n"], hops}, {"p99", l.curves["n"], hops99}}},
		{"liars.svg", "Lookups that succeed, " + caption, "% of the nodes lie", "%", false, []series{
			{"8 paths", l.curves["f"], success}, {"1 path", l.curves["f1"], success}, {"8 paths, and liars name ever others", l.curves["fw"], success},
		}},
		{"liars-hops.svg", "Hops to a record, " + caption, "% of the nodes lie", "hops", false, []series{{"mean", l.curves["f"], hops}, {"p99", l.curves["f"], hops99}}},
	} {
		svg, err := chart(c.title, c.x, c.y, c.log, c.lines)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(l.options.out, c.file), svg, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []color.Color{color.RGBA{R: 0, G: 114, B: 178, A: 255}, color.RGBA{R: 213, G: 94, B: 0, A: 255}, color.RGBA{R: 0, G: 158, B: 115, A: 255}}

func chart(title, x, y string, log bool, lines []series) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min = 0
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		f.Typeface, f.Variant = "Liberation", "Sans"
	}
	if log {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	p.Legend.Left, p.Legend.Padding = true, vg.Millimeter
	for i, s := range lines {
		var xy plotter.XYs
		for _, at := range s.points {
			xy = append(xy, plotter.XY{X: at.x, Y: s.of(at)})
		}
		if len(xy) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(xy)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color, dots.Shape = palette[i], palette[i], draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(s.name, line)
	}
	canvas := vgsvg.New(15*vg.Centimeter, 9*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}
