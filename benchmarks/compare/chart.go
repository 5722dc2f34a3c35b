package main

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// drawn are the cases in the chart. The colours are Okabe and Ito's, which
// colour-blind readers can tell apart.
var drawn = []struct {
	kase, name string
	color      color.Color
}{
	{"bulk-out", "dialler to listener", color.RGBA{0x00, 0x72, 0xb2, 0xff}},
	{"bulk-back", "back", color.RGBA{0xe6, 0x9f, 0x00, 0xff}},
}

// writeChart draws the rates of one stream of all systems.
func writeChart(file string, m machine, sum summary) error {
	svg, err := chart(m, sum)
	if err != nil || svg == nil {
		return err
	}
	return writeFile(file, svg)
}

// chart returns an SVG file, nil when there is nothing to draw.
func chart(m machine, sum summary) ([]byte, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("One stream, both ends and relays on one machine of %d CPUs, medians", m.CPUs)
	p.X.Label.Text = "MB/s"
	for _, f := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		f.Typeface, f.Variant = "Liberation", "Sans"
	}
	p.Title.TextStyle.Font.Size = 11
	p.Title.Padding, p.Legend.Padding = 8, 2
	p.Add(plotter.NewGrid())

	var names []string
	rates := make([]plotter.Values, len(drawn))
	for i := len(systems) - 1; i >= 0; i-- { // the first is drawn at the top
		any := false
		row := make([]float64, len(drawn))
		for d := range drawn {
			s, ok := sum[subject{drawn[d].kase, systems[i].name, rate}]
			any = any || ok
			row[d] = s.Median
		}
		if any {
			names = append(names, systems[i].name)
			for d := range drawn {
				rates[d] = append(rates[d], row[d])
			}
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	const width = 8 // points
	for d := range drawn {
		bars, err := plotter.NewBarChart(rates[d], vg.Points(width))
		if err != nil {
			return nil, err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, drawn[d].color, 0
		bars.Offset = vg.Points(width/2 - float64(d)*width)
		p.Add(bars)
		p.Legend.Add(drawn[d].name, bars)
	}
	p.NominalY(names...)
	p.X.Min, p.X.Max = 0, 1.3*p.X.Max // room for the legend
	p.Y.Padding = vg.Points(8)
	p.Y.Tick.Label.Font.Size = 9
	canvas := vgsvg.New(18*vg.Centimeter, vg.Length(3+len(names))*0.8*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}
