// Package text makes of what others wrote something that may stand on a terminal and in a directory: it moves no cursor,
// turns no order around, and hides nothing.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// maxMarks is how many combining marks one character may have. Writing systems need fewer; more cover the lines around.
const maxMarks = 6

// joiners belong to emoji and to some scripts.
const joiners = "\u200c\u200d"

// blank are letters by name that nobody can see.
const blank = "\u115f\u1160\u3164\uffa0"

// Line is a line of others. What would be obeyed, or not be seen, is a dot.
func Line(s string) string { return clean(strings.ReplaceAll(s, "\t", "    "), joiners) }

// Name is Line for what has to be told from others like it: there joiners are not seen either, and spaces are spaces.
func Name(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, clean(s, ""))
}

func clean(s, allowed string) string {
	s = program.Printable(strings.ToValidUTF8(s, "·"))
	var b strings.Builder
	marks := maxMarks // at the beginning they would stand on what is before
	for _, r := range s {
		switch {
		case strings.ContainsRune(allowed, r):
		case unicode.Is(unicode.Cf, r), strings.ContainsRune(blank, r):
			r = '·'
		case unicode.In(r, unicode.Mn, unicode.Me):
			if marks++; marks == maxMarks+1 {
				r = '·'
			} else if marks > maxMarks {
				continue
			}
		default:
			marks = 0
		}
		b.WriteRune(r)
	}
	return b.String()
}

// FileName is the name of a file of others, of at most that many bytes, without what a directory would make of it.
func FileName(name string, most int) string {
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, Name(name))
	for len(name) > most {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	name = strings.Trim(name, ". ")
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch {
	case name == "":
		return "file"
	case name[0] == '-', reserved(strings.TrimSpace(base)): // an option, and what Windows has devices for
		return "_" + name
	}
	return name
}

func reserved(base string) bool {
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	return len(base) == 4 && (base[:3] == "COM" || base[:3] == "LPT") && base[3] >= '0' && base[3] <= '9'
}
