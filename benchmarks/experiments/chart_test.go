package experiments

import (
	"bytes"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is a drawing with lines of points, or with bars. It is the same file
// whenever its numbers are the same.
type chart struct {
	file   string // without its ending
	title  string
	x, y   string // what the axes show
	lines  []line
	bars   []float64 // drawn instead of lines, each over its name
	names  []string
	limits []float64 // horizontal lines: the bars to pass
	events []float64 // vertical lines: when something broke
}

// A line is the points that share a colour.
type line struct {
	name   string
	points plotter.XYs
}

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
}

// draw writes c to docs/experiments, in a full run, with the results below its
// title; a short run draws and throws away. A chart of nothing isn't drawn.
func (c chart) draw(t testing.TB, results ...Result) {
	t.Helper()
	if len(c.lines)+len(c.bars) == 0 {
		return
	}
	svg, err := c.svg(results)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if *full {
		dir = filepath.Join("..", "..", "docs", "experiments")
	}
	if err := os.WriteFile(filepath.Join(dir, c.file+".svg"), svg, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c chart) svg(results []Result) ([]byte, error) {
	p, err := c.plot(results)
	if err != nil {
		return nil, err
	}
	canvas := vgsvg.New(18*vg.Centimeter, 11*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err = canvas.WriteTo(&b)
	return b.Bytes(), err
}

func (c chart) plot(results []Result) (*plot.Plot, error) {
	p := plot.New()
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	title := []string{c.title}
	for _, r := range results {
		title = append(title, r.String())
	}
	p.Title.Text = strings.Join(title, "\n")
	p.X.Label.Text, p.Y.Label.Text = c.x, c.y
	for _, style := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		style.Typeface, style.Variant = sans.Typeface, sans.Variant
	}
	p.Title.TextStyle.Font.Size = 11
	p.Title.Padding = 8
	p.Legend.Top = true
	p.Legend.Padding = 2
	p.Add(plotter.NewGrid())
	if err := c.addLines(p); err != nil {
		return nil, err
	}
	if err := c.addBars(p); err != nil {
		return nil, err
	}
	p.Y.Min = min(0, p.Y.Min)
	if len(c.lines) > 0 {
		p.X.Min = min(0, p.X.Min)
	}
	if err := c.addRules(p); err != nil {
		return nil, err
	}
	p.Y.Max *= 1.15 // room for the legend
	return p, nil
}

func (c chart) addLines(p *plot.Plot) error {
	for i, l := range c.lines {
		if len(l.points) == 0 {
			continue
		}
		drawn, err := plotter.NewLine(l.points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = palette[i%len(palette)], vg.Points(1.2)
		p.Add(drawn)
		p.Legend.Add(l.name, drawn)
	}
	return nil
}

func (c chart) addBars(p *plot.Plot) error {
	if len(c.bars) == 0 {
		return nil
	}
	drawn, err := plotter.NewBarChart(plotter.Values(c.bars), vg.Points(28))
	if err != nil {
		return err
	}
	drawn.Color, drawn.LineStyle.Width = palette[0], 0
	p.Add(drawn)
	p.NominalX(c.names...)
	for _, l := range c.limits {
		p.Y.Max = max(p.Y.Max, l)
	}
	return nil
}

// addRules draws the limits and the events over what is there.
func (c chart) addRules(p *plot.Plot) error {
	for _, y := range c.limits {
		if err := rule(p, plotter.XYs{{X: p.X.Min, Y: y}, {X: p.X.Max, Y: y}}); err != nil {
			return err
		}
	}
	for _, x := range c.events {
		if err := rule(p, plotter.XYs{{X: x, Y: p.Y.Min}, {X: x, Y: p.Y.Max}}); err != nil {
			return err
		}
	}
	return nil
}

func rule(p *plot.Plot, ends plotter.XYs) error {
	l, err := plotter.NewLine(ends)
	if err != nil {
		return err
	}
	l.Color, l.Dashes, l.Width = color.Gray{0x50}, []vg.Length{vg.Points(4), vg.Points(3)}, vg.Points(1)
	p.Add(l)
	return nil
}

// TestChart: the same numbers give the same file.
func TestChart(t *testing.T) {
	c := chart{
		file: "test", title: "A test", x: "time, s", y: "Mbit/s", limits: []float64{2}, events: []float64{1},
		lines: []line{{"a", plotter.XYs{{X: 0, Y: 1}, {X: 2, Y: 3}}}, {"b", plotter.XYs{{X: 0, Y: 2}, {X: 2, Y: 2}}}, {name: "none"}},
	}
	bars := chart{file: "bars", title: "Bars", y: "×", bars: []float64{1, 2}, names: []string{"one", "two"}, limits: []float64{1.5}}
	for _, c := range []chart{c, bars} {
		one, err := c.svg([]Result{{Name: "A", Bar: atMost(1)}})
		if err != nil {
			t.Fatal(err)
		}
		two, err := c.svg([]Result{{Name: "A", Bar: atMost(1)}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) || !bytes.Contains(one, []byte("</svg>")) {
			t.Errorf("%s is drawn in two ways", c.file)
		}
	}
}
