package main

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// units are what may stand behind a number of bytes.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// parseSize reads sizes such as 256MiB, 64kb and 1.5 GiB, from minSize to maxSize.
func parseSize(s string) (int64, error) {
	number := strings.TrimRightFunc(s, unicode.IsLetter)
	unit := s[len(number):]
	number = strings.TrimSuffix(number, " ")
	for _, u := range units {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		n, ok := parseDecimal(number)
		if !ok {
			return 0, fmt.Errorf("%.40q is not a size: want digits and a unit, as in 256MiB", s)
		}
		size := math.Round(n * float64(u.bytes))
		if size < minSize || size > maxSize {
			return 0, fmt.Errorf("%.40q is out of bounds: want %s to %s", s, formatSize(int64(minSize)), formatSize(int64(maxSize)))
		}
		return int64(size), nil
	}
	return 0, fmt.Errorf("%.40q has no unit that is known: want KB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
}

// parseDecimal reads digits with at most one point between them: nothing of what
// else strconv would take.
func parseDecimal(s string) (n float64, ok bool) {
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || point && fraction == "" || len(s) > 20 {
		return 0, false
	}
	for _, c := range whole + fraction {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + float64(c-'0')
	}
	return n / math.Pow10(len(fraction)), true
}

// formatSize writes a number of bytes with the largest binary unit that keeps it
// at 1 or above, and no more digits than are of use.
func formatSize[N int64 | uint64 | float64](n N) string {
	v, unit := float64(n), "B"
	for _, u := range units[:4] {
		if float64(n) >= float64(u.bytes) {
			v, unit = float64(n)/float64(u.bytes), u.name
		}
	}
	if v >= 100 || v == math.Trunc(v) {
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
