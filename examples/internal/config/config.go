// Package config reads the settings of a program. What its code says comes first; a YAML file stands above it, the
// environment above that, and flags above all.
//
//	type settings struct {
//		Listen []config.Addr `name:"listen" help:"where neighbours reach this node"`
//		Log    struct {
//			Level slog.Level `name:"level" help:"debug, info, warn or error"`
//		} `name:"log"`
//	}
//	s := settings{}                              // with the defaults
//	c, err := config.New("meshrelay", &s)
//	c.AddFlags(command.PersistentFlags())        // --listen, --log.level
//	err = c.Load("meshrelay.yaml", true)         // and MESHRELAY_LISTEN, MESHRELAY_LOG_LEVEL
//
// What the package promises:
//
//   - Every setting can be given in each of the three ways, under the same name.
//   - An unknown key, a wrong type and an impossible value are errors that name the file, the line and the column, or the
//     variable, or the flag, and what is allowed there. All of them are told at once.
//   - A variable with the program's prefix that is none of its settings is an error too, but for those that Kubernetes
//     sets for a service of the program's name.
//   - A file costs 1 MiB at most; anchors and aliases, duplicate keys and further documents are refused.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// A Settings is the settings of one program, bound to the struct that holds them.
type Settings struct {
	prefix string // of environment variables
	root   any
	leaves []*leaf
	byPath map[string]*leaf
	flags  *pflag.FlagSet

	found bool // the file was there, with something in it
	again bool // so it has to be now
}

// A leaf is one setting.
type leaf struct {
	path, help string
	value      reflect.Value
	origin     origin
	given      []string // by a flag
}

// An origin says who set a setting last.
type origin struct {
	where string // "FILE:LINE:COLUMN", the variable's name, or the flag's; empty: the default
}

// A Problem is what a Validate method has to say of one setting. Path is relative to the struct that has the method.
type Problem struct{ Path, Text string }

// A Checker is a struct of settings that names files, or other things outside. Check returns what is wrong with those. It
// only reads.
type Checker interface{ Check() []Problem }

// A Validator is a struct of settings that knows what goes together. Validate returns what does not.
type Validator interface{ Validate() []Problem }

// An Error says what is wrong with one setting, and where it stands.
type Error struct {
	Where string // as in "relay.yaml:3:5", "MESHRELAY_LISTEN", "--listen", or "default"
	Path  string // the setting; may be empty
	Text  string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Where + ": " + e.Text
	}
	return e.Where + ": " + e.Path + ": " + e.Text
}

// New binds settings, a pointer to a struct that holds the defaults, to a program's name. Fields need the tags name and
// help; those that are structs are sections, and need no help.
func New(program string, settings any) (*Settings, error) {
	c := &Settings{prefix: strings.ToUpper(strings.ReplaceAll(program, "-", "_")) + "_", root: settings, byPath: make(map[string]*leaf)}
	v := reflect.ValueOf(settings)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("settings of %s: want a pointer to a struct, not %T", program, settings)
	}
	if err := c.bind("", v.Elem()); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Settings) bind(prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("name")
		if name == "" || !f.IsExported() {
			return fmt.Errorf("field %s of %s has no name tag, or is not exported", f.Name, v.Type())
		}
		path := prefix + name
		if isSection(f.Type) {
			if err := c.bind(path+".", v.Field(i)); err != nil {
				return err
			}
			continue
		}
		l := &leaf{path: path, help: f.Tag.Get("help"), value: v.Field(i)}
		if l.help == "" {
			return fmt.Errorf("setting %s has no help", path)
		}
		if c.byPath[path] != nil {
			return fmt.Errorf("two settings are called %s", path)
		}
		c.leaves = append(c.leaves, l)
		c.byPath[path] = l
	}
	return nil
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textType)
}

// AddFlags adds a flag for every setting.
func (c *Settings) AddFlags(fs *pflag.FlagSet) {
	c.flags = fs
	for _, l := range c.leaves {
		f := fs.VarPF(&flagValue{l}, l.path, "", l.help)
		if l.value.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
}

// A flagValue keeps what a flag was given until Load.
type flagValue struct{ l *leaf }

func (f *flagValue) Set(s string) error {
	f.l.given = append(f.l.given, s)
	return nil
}

func (f *flagValue) String() string {
	if f.l == nil { // pflag asks the zero value
		return ""
	}
	return strings.Join(f.l.texts(), ",")
}

func (f *flagValue) Type() string { return f.l.kind() }

// Load is Read and Validate.
func (c *Settings) Load(path string, must bool) error {
	if err := c.Read(path, must); err != nil {
		return err
	}
	return c.Validate()
}

// Read reads the file, the environment and the flags. A file that does not exist is no error unless it must. What goes
// together is for Validate.
func (c *Settings) Read(path string, must bool) error {
	var errs []error
	if path != "" {
		errs = append(errs, c.file(path, must)...)
	}
	errs = append(errs, c.unknownVariables(os.Environ())...)
	for _, l := range c.leaves {
		variable := c.Variable(l.path)
		if text, ok := os.LookupEnv(variable); ok {
			l.set(variable, split(l, []string{text}), &errs)
		}
		if len(l.given) > 0 {
			l.set("--"+l.path, split(l, l.given), &errs)
		}
	}
	return errors.Join(errs...)
}

// Validate asks the Validators what does not go together.
func (c *Settings) Validate() error {
	return c.ask("", reflect.ValueOf(c.root).Elem(), func(v any) []Problem {
		if w, ok := v.(Validator); ok {
			return w.Validate()
		}
		return nil
	})
}

// Check asks the Checkers. What Validate has to say is not for it.
func (c *Settings) Check() error {
	return c.ask("", reflect.ValueOf(c.root).Elem(), func(v any) []Problem {
		if w, ok := v.(Checker); ok {
			return w.Check()
		}
		return nil
	})
}

// set gives the setting a value, or adds to errs why not.
func (l *leaf) set(where string, texts []string, errs *[]error) {
	l.origin = origin{where}
	if l.value.Kind() != reflect.Slice {
		if _, ok := l.value.Interface().(optional); ok && texts[0] == "" {
			l.value.SetZero()
		} else if err := setText(l.value, texts[0]); err != nil {
			*errs = append(*errs, &Error{where, l.path, err.Error()})
		}
		return
	}
	list := reflect.MakeSlice(l.value.Type(), len(texts), len(texts))
	for i, t := range texts {
		if err := setText(list.Index(i), t); err != nil {
			*errs = append(*errs, &Error{where, l.path, err.Error()})
		}
	}
	l.value.Set(list)
}

// An optional value may be none, which is written as nothing.
type optional interface{ IsZero() bool }

// setText gives one value what a text says.
func setText(v reflect.Value, text string) error {
	if d, ok := v.Addr().Interface().(*time.Duration); ok {
		x, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%.80q is no duration: write one like 90s, 5m or 1h30m", text)
		}
		*d = x
		return nil
	}
	if l, ok := v.Addr().Interface().(*slog.Level); ok {
		if err := l.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%.80q is none of: debug, info, warn, error", text)
		}
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		x, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%.80q is neither true nor false", text)
		}
		v.SetBool(x)
	case reflect.Int, reflect.Int64:
		x, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%.80q is no whole number", text)
		}
		v.SetInt(x)
	default:
		return fmt.Errorf("a setting can't be of the type %s", v.Type())
	}
	return nil
}

// kind names what a setting wants, for people.
func (l *leaf) kind() string {
	t := l.value.Type()
	list := ""
	if t.Kind() == reflect.Slice {
		t, list = t.Elem(), " list"
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration" + list
	case reflect.PointerTo(t).Implements(textType):
		return strings.ToLower(t.Name()) + list
	case t.Kind() == reflect.Int64:
		return "int" + list
	}
	return t.Kind().String() + list
}

// texts are the setting's values as one would write them.
func (l *leaf) texts() []string {
	if l.value.Kind() != reflect.Slice {
		return []string{textOf(l.value)}
	}
	out := make([]string, l.value.Len())
	for i := range out {
		out[i] = textOf(l.value.Index(i))
	}
	return out
}

func textOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	case time.Duration:
		return x.String()
	}
	return fmt.Sprint(v.Interface())
}

// ask asks the structs for problems, the outermost first.
func (c *Settings) ask(prefix string, v reflect.Value, about func(any) []Problem) error {
	var errs []error
	for _, p := range about(v.Addr().Interface()) {
		path := prefix + p.Path
		errs = append(errs, &Error{c.Where(path), path, p.Text})
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if isSection(f.Type) {
			errs = append(errs, c.ask(prefix+f.Tag.Get("name")+".", v.Field(i), about))
		}
	}
	return errors.Join(errs...)
}

// Where says who gave a setting the value that it has, or who gave the first in a section its.
func (c *Settings) Where(path string) string {
	for _, l := range c.leaves {
		if (l.path == path || strings.HasPrefix(l.path, path+".")) && l.origin.where != "" {
			return l.origin.where
		}
	}
	return "default"
}

// below are the names that may stand in a section.
func (c *Settings) below(prefix string) (names []string) {
	for _, l := range c.leaves {
		if rest, ok := strings.CutPrefix(l.path, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
