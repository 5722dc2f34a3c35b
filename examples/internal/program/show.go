package program

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
)

// AddJSON has a command print JSON on demand.
func AddJSON(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON")
}

// ShowJSON prints v as indented JSON. What a terminal would obey, or not show, is escaped.
func ShowJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r == '\n' || !unicode.Is(unicode.Cf, r) && Printable(string(r)) == string(r):
			out.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, "\\u%04x", unit)
			}
		}
	}
	_, err = fmt.Fprintln(w, out.String())
	return err
}

// A Table is printed with its columns below each other.
type Table struct {
	w       *tabwriter.Writer
	columns int
}

// NewTable begins a table with the names of its columns.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), len(columns)}
	t.Row(columns...)
	return t
}

// Row adds a row. What could end the row or begin a control sequence is taken out of the cells.
func (t *Table) Row(cells ...string) {
	all := make([]string, max(t.columns, len(cells))) // a short row would end the columns
	for i, c := range cells {
		all[i] = Printable(c)
	}
	fmt.Fprintln(t.w, strings.Join(all, "\t")) // a failure is Flush's
}

// Flush prints the table.
func (t *Table) Flush() error { return t.w.Flush() }

// Printable is text of others without what a terminal would obey.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '·'
		}
		return r
	}, s)
}
