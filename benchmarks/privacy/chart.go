package main

import (
	"fmt"
	"html"
	"io"
)

// A bar of the chart: an accuracy, and what it cost.
type bar struct {
	name     string
	accuracy float64
	overhead float64
}

// draw writes the chart as SVG: a bar for each, the highest accuracy that is
// allowed as a line.
func draw(w io.Writer, bars []bar, limit float64, caption string) error {
	const left, top, row, width = 210, 56, 34, 420
	height := top + row*len(bars) + 44
	p := &printer{w: w}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">`+"\n",
		left+width+190, height)
	p.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	p.printf(`<text x="16" y="24" font-size="16">How often a relay tells which page was loaded</text>` + "\n")
	p.printf(`<text x="16" y="43" fill="#555">%s</text>`+"\n", html.EscapeString(caption))
	for i, b := range bars {
		y := top + row*i
		p.printf(`<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+20, html.EscapeString(b.name))
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="%d" fill="#4477aa"/>`+"\n", left, y+5, b.accuracy*width, row-12)
		p.printf(`<text x="%.1f" y="%d">%.1f %%, %+.0f %% bytes</text>`+"\n", left+b.accuracy*width+8, y+20, 100*b.accuracy, 100*b.overhead)
	}
	x, bottom := left+limit*width, top+row*len(bars)
	p.printf(`<line x1="%.1f" y1="%d" x2="%[1]f" y2="%d" stroke="#cc3311" stroke-dasharray="4 3"/>`+"\n", x, top, bottom)
	p.printf(`<text x="%.1f" y="%d" fill="#cc3311">bar %.0f %%</text>`+"\n", x-10, bottom+20, 100*limit)
	p.printf("</svg>\n")
	return p.err
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
