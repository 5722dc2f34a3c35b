package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a file of settings.
const maxFile = 1 << 20

// file reads the settings of a YAML file.
func (c *Settings) file(path string, must bool) (errs []error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !must && !c.again {
		return nil
	}
	if err != nil {
		return []error{fmt.Errorf("settings: %w", err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return []error{fmt.Errorf("settings: %w", err)}
	case len(b) > maxFile:
		return []error{&Error{Where: path, Text: fmt.Sprintf("over %d bytes: is it the right file?", maxFile)}}
	}
	return c.parse(path, b)
}

func (c *Settings) parse(path string, b []byte) (errs []error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF) && c.again:
		return []error{&Error{Where: path, Text: "there is nothing in it any more: was it cut off? To have no settings, write {} into it"}}
	case errors.Is(err, io.EOF): // nothing but comments
		return nil
	case err != nil:
		return []error{syntaxError(path, err)}
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return []error{&Error{Where: path, Text: "it has a second document, or what follows the first is no YAML: put all settings into one"}}
	}
	c.found = true
	p := parser{c: c, file: path}
	p.section("", doc.Content[0])
	return p.errs
}

// The library's errors begin with the line: its scanner counts from 1, its parser, whose errors inParser knows, from 0, and
// of the first there is none.
var (
	syntax   = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	inParser = regexp.MustCompile(`^did not find expected (<document start>|key|node content|'-' indicator|',' or '[\]}]')$`)
)

func syntaxError(path string, err error) error {
	parts := syntax.FindStringSubmatch(err.Error())
	if parts == nil {
		return &Error{Where: path, Text: err.Error()}
	}
	line, _ := strconv.Atoi(parts[1])
	if inParser.MatchString(parts[2]) {
		line++
	}
	return &Error{Where: fmt.Sprintf("%s:%d", path, max(line, 1)), Text: "it is no YAML: " + parts[2]}
}

// A parser reads one file.
type parser struct {
	c    *Settings
	file string
	errs []error
}

func (p *parser) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", p.file, n.Line, n.Column) }

func (p *parser) fail(n *yaml.Node, path, format string, args ...any) {
	p.errs = append(p.errs, &Error{p.at(n), path, fmt.Sprintf(format, args...)})
}

// section reads the settings whose names begin with the prefix.
func (p *parser) section(prefix string, n *yaml.Node) {
	name := strings.TrimSuffix(prefix, ".")
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.fail(n, name, "anchors and aliases are not allowed: write the value out")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return // a section with nothing in it
	case n.Kind != yaml.MappingNode:
		p.fail(n, name, "%s stands where settings belong: %s", nodeKind(n), strings.Join(p.c.below(prefix), ", "))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		switch l := p.c.byPath[path]; {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			p.fail(key, name, "a key must be a word, of: %s", strings.Join(p.c.below(prefix), ", "))
		case seen[key.Value]:
			p.fail(key, path, "it stands here a second time")
		case l != nil:
			p.leaf(l, value)
		case len(p.c.below(path+".")) > 0:
			p.section(path+".", value)
		default:
			p.fail(key, "", "unknown key %.80q; allowed here: %s", key.Value, strings.Join(p.c.below(prefix), ", "))
		}
		seen[key.Value] = true
	}
}

// leaf reads one setting.
func (p *parser) leaf(l *leaf, n *yaml.Node) {
	items := []*yaml.Node{n}
	list := l.value.Kind() == reflect.Slice
	switch {
	case list && n.Kind == yaml.SequenceNode && n.Anchor == "":
		items = n.Content
	case list:
		p.fail(n, l.path, "want a list (%s), not %s", l.kind(), nodeKind(n))
		return
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.Anchor != "" || !fits(l, item.Tag) {
			want := strings.TrimSuffix(l.kind(), " list")
			if want == "duration" {
				want += " with its unit, like 30s"
			}
			p.fail(item, l.path, "want %s, not %s", want, nodeKind(item))
			return
		}
		texts = append(texts, item.Value)
	}
	if !list {
		l.set(p.at(n), texts, &p.errs)
		return
	}
	for i, item := range items { // so that each error names its own line
		var errs []error
		one := &leaf{path: l.path, value: reflect.New(l.value.Type()).Elem()}
		if one.set(p.at(item), texts[i:i+1], &errs); len(errs) > 0 {
			p.errs = append(p.errs, errs...)
			return
		}
	}
	var none []error
	l.set(p.at(n), texts, &none)
}

// fits reports whether a scalar of the tag can be what the setting wants.
func fits(l *leaf, tag string) bool {
	switch strings.TrimSuffix(l.kind(), " list") {
	case "bool":
		return tag == "!!bool"
	case "int":
		return tag == "!!int"
	case "duration":
		return tag == "!!str"
	}
	return tag == "!!str" || tag == "!!int" || tag == "!!float" || tag == "!!timestamp"
}

func nodeKind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!null":
		return "nothing (leave the line out to have the default)"
	case "!!bool":
		return fmt.Sprintf("the truth value %.80s", n.Value)
	case "!!int", "!!float":
		return fmt.Sprintf("the number %.80s", n.Value)
	}
	return fmt.Sprintf("%.80q", n.Value)
}

// Print writes all settings as YAML, each with what it means and who set it.
func (c *Settings) Print(w io.Writer) error {
	var b bytes.Buffer
	var open []string // sections
	for _, l := range c.leaves {
		parts := strings.Split(l.path, ".")
		sections, name := parts[:len(parts)-1], parts[len(parts)-1]
		same := 0
		for same < len(open) && same < len(sections) && open[same] == sections[same] {
			same++
		}
		for i := same; i < len(sections); i++ {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), sections[i])
		}
		open = sections
		in := strings.Repeat("  ", len(sections))
		fmt.Fprintf(&b, "%s# %s (%s; from %s)\n", in, l.help, l.kind(), c.Where(l.path))
		value, err := l.yaml()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s\n", in, name, value)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// yaml is the setting's value on one line.
func (l *leaf) yaml() (string, error) {
	texts := l.texts()
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = t
		if k := strings.TrimSuffix(l.kind(), " list"); k == "bool" || k == "int" {
			continue
		}
		n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: t}
		if l.value.Kind() == reflect.Slice || strings.ContainsAny(t, "\n") {
			n.Style = yaml.DoubleQuotedStyle
		}
		out, err := yaml.Marshal(&n)
		if err != nil {
			return "", err
		}
		quoted[i] = strings.TrimSpace(string(out))
	}
	if l.value.Kind() == reflect.Slice {
		return "[" + strings.Join(quoted, ", ") + "]", nil
	}
	return quoted[0], nil
}
