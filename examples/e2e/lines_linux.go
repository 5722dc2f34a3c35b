package main

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// lines are what is printed, a figure each.
type lines struct {
	out, log   io.Writer
	all, short int
}

func (l *lines) atLeast(name string, value, bar float64) {
	l.print(name, value, ">=", bar, value >= bar)
}
func (l *lines) atMost(name string, value, bar float64) {
	l.print(name, value, "<=", bar, value <= bar)
}

func (l *lines) print(name string, value float64, than string, bar float64, reached bool) {
	l.all++
	short := ""
	if !reached {
		l.short++
		short = " SHORT"
	}
	fmt.Fprintf(l.out, "%s = %s (bar %s %s)%s\n", name, number(value), than, number(bar), short)
}

// number has as many decimals as it needs, two at most.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

var figure = regexp.MustCompile(`^([A-Z][A-Z0-9_]*) = (-?[0-9.]+) \(bar (>=|<=) (-?[0-9.]+)\)`)

// take judges a line of a program that prints such ones, too. It reports whether it is one.
func (l *lines) take(line string) bool {
	m := figure.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	value, err1 := strconv.ParseFloat(m[2], 64)
	bar, err2 := strconv.ParseFloat(m[4], 64)
	if err1 != nil || err2 != nil {
		return false
	}
	if m[3] == ">=" {
		l.atLeast(m[1], value, bar)
	} else {
		l.atMost(m[1], value, bar)
	}
	return true
}
