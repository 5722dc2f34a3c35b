package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// split takes lists apart that stand in one text, separated by commas.
func split(l *leaf, texts []string) (out []string) {
	if l.value.Kind() != reflect.Slice {
		return texts[len(texts)-1:]
	}
	for _, t := range texts {
		for s := range strings.SplitSeq(t, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// Variable is the setting's, in the environment.
func (c *Settings) Variable(path string) string {
	return c.prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// kubernetes are the variables, without the prefix, that it sets in every container for a service of the program's name, or
// of one that begins with it.
var kubernetes = regexp.MustCompile(`^(.+_)?(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)$`)

// unknownVariables are those that somebody set for the program, and that it would not heed: a mistyped allow-file must not
// let everybody in.
func (c *Settings) unknownVariables(environ []string) (errs []error) {
	known := make(map[string]bool)
	for _, l := range c.leaves {
		known[c.Variable(l.path)] = true
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if rest, ok := strings.CutPrefix(name, c.prefix); ok && !known[name] && !kubernetes.MatchString(rest) {
			errs = append(errs, &Error{Where: name, Text: fmt.Sprintf("no setting has this variable; %s has %s, and config print lists them all", c.leaves[0].path, c.Variable(c.leaves[0].path))})
		}
	}
	return errs
}
