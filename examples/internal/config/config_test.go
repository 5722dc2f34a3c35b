package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/splitmesh/splitmesh/examples/internal/config"
)

type log struct {
	Level slog.Level `name:"level" help:"how much is told"`
	JSON  bool       `name:"json" help:"whether as JSON"`
}

type settings struct {
	Log    log           `name:"log"`
	Listen []config.Addr `name:"listen" help:"where neighbours reach it"`
	Name   string        `name:"name" help:"what it is called"`
	Public config.Addr   `name:"public" help:"where others reach it"`
	Limits limits        `name:"limits"`
}

type limits struct {
	Circuits int           `name:"circuits" help:"how many at once"`
	Rate     config.Size   `name:"rate" help:"bytes a second of one peer"`
	Wait     time.Duration `name:"wait" help:"how long"`
	Deny     []string      `name:"deny" help:"who may not"`
}

func (l *limits) Validate() (out []config.Problem) {
	if l.Circuits < 1 {
		out = append(out, config.Problem{Path: "circuits", Text: fmt.Sprintf("%d is no number of circuits: 1 and more are allowed", l.Circuits)})
	}
	return out
}

func fresh() *settings {
	return &settings{Name: "nobody", Limits: limits{Circuits: 10, Rate: 64 << 10, Wait: time.Minute}}
}

// load reads a file, with flags.
func load(t *testing.T, file string, flags ...string) (*settings, *config.Settings, error) {
	t.Helper()
	s := fresh()
	c, err := config.New("mesh-test", s)
	if err != nil {
		t.Fatal(err)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.AddFlags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(path))
	return s, c, c.Load("s.yaml", true)
}

// TestOrder: flags stand above the environment, that above the file, and that above
// the code; and it is told who won.
func TestOrder(t *testing.T) {
	t.Setenv("MESH_TEST_LIMITS_WAIT", "2s")
	t.Setenv("MESH_TEST_LIMITS_CIRCUITS", "20")
	t.Setenv("MESH_TEST_LISTEN", "/ip4/192.0.2.1/tcp/1, /ip4/192.0.2.1/tcp/2/ws")
	s, c, err := load(t, `
name: file
listen: ["/ip4/192.0.2.9/tcp/9"]
log:
  level: warn
limits:
  wait: 1s
  circuits: 5
  rate: 1MiB
  deny:
    - a
    - b
`, "--limits.circuits=30", "--log.json")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "file" || s.Log.Level != slog.LevelWarn || !s.Log.JSON || s.Limits.Wait != 2*time.Second || s.Limits.Circuits != 30 ||
		s.Limits.Rate != 1<<20 || !reflect.DeepEqual(s.Limits.Deny, []string{"a", "b"}) || len(s.Listen) != 2 || s.Listen[1].String() != "/ip4/192.0.2.1/tcp/2/ws" {
		t.Errorf("%+v", s)
	}
	for path, want := range map[string]string{
		"name": "s.yaml:2:7", "limits.wait": "MESH_TEST_LIMITS_WAIT", "limits.circuits": "--limits.circuits", "log.json": "--log.json", "limits.deny": "s.yaml:11:5",
	} {
		if got := c.Where(path); got != want {
			t.Errorf("%s is from %s, want %s", path, got, want)
		}
	}
}

// TestErrors: each says where, which and what is allowed.
func TestErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		file  string
		flags []string
		want  []string
	}{
		"unknown key":        {file: "name: a\nlisten_: []\n", want: []string{`s.yaml:2:1: unknown key "listen_"; allowed here: log, listen, name, public, limits`}},
		"unknown below":      {file: "limits:\n  circuit: 1\n", want: []string{`s.yaml:2:3: unknown key "circuit"; allowed here: circuits, rate, wait, deny`}},
		"all at once":        {file: "name: [a]\nlog: {json: 1}\nlimits: {circuits: many}", want: []string{`s.yaml:1:7: name: want string, not a list`, `s.yaml:2:13: log.json: want bool, not the number 1`, `s.yaml:3:20: limits.circuits: want int, not "many"`}},
		"a section's place":  {file: "limits: 3", want: []string{`s.yaml:1:9: limits: the number 3 stands where settings belong: circuits, rate, wait, deny`}},
		"a list's item":      {file: "listen:\n - /ip4/192.0.2.1/tcp/1\n - /ip4/1.2.3/tcp/2\n", want: []string{`s.yaml:3:4: listen: `}},
		"no list":            {file: "listen: /ip4/192.0.2.1/tcp/1", want: []string{`s.yaml:1:9: listen: want a list (addr list), not "/ip4/192.0.2.1/tcp/1"`}},
		"twice":              {file: "name: a\nname: b\n", want: []string{`s.yaml`}},
		"nothing":            {file: "name:\n", want: []string{`s.yaml:1:6: name: want string, not nothing (leave the line out to have the default)`}},
		"duration":           {file: "limits: {wait: 5 minutes}", want: []string{`s.yaml:1:16: limits.wait: "5 minutes" is no duration: write one like 90s, 5m or 1h30m`}},
		"duration, no unit":  {file: "limits: {wait: 5}", want: []string{`s.yaml:1:16: limits.wait: want duration with its unit, like 30s, not the number 5`}},
		"level":              {file: "log: {level: loud}", want: []string{`s.yaml:1:14: log.level: "loud" is none of: debug, info, warn, error`}},
		"half a byte":        {file: "limits: {rate: 0.5}", want: []string{`s.yaml:1:16: limits.rate: "0.5" is no whole number of bytes`}},
		"half a byte more":   {file: "limits: {rate: 1.5B}", want: []string{`"1.5B" is no whole number of bytes`}},
		"less than a byte":   {file: "limits: {rate: 0.0001KiB}", want: []string{`"0.0001KiB" is no whole number of bytes`}},
		"a port":             {file: "listen: [/ip4/192.0.2.1/tcp/70000]", want: []string{`"70000" is no port: 0 to 65535`}},
		"size":               {file: "limits: {rate: lots}", want: []string{`"lots" is no size: write one like 512, 64KiB or 1.5GB`}},
		"impossible":         {file: "limits:\n  circuits: -1\n", want: []string{`s.yaml:2:13: limits.circuits: -1 is no number of circuits: 1 and more are allowed`}},
		"impossible by flag": {flags: []string{"--limits.circuits=0"}, want: []string{`--limits.circuits: limits.circuits: 0 is no number of circuits`}},
		"flag":               {flags: []string{"--limits.wait=soon"}, want: []string{`--limits.wait: limits.wait: "soon" is no duration`}},
		"no yaml":            {file: "name: a\nlimits: {wait: 3s}\na: b: c", want: []string{`s.yaml:3: it is no YAML: mapping values are not allowed`}},
		"a list left open":   {file: "name: a\nlimits:\n  deny: [a\nlog: {json: true}\n", want: []string{`s.yaml:3: it is no YAML: did not find expected ',' or ']'`}},
		"a word left open":   {file: "name: 'a\n", want: []string{`s.yaml:2: it is no YAML: found unexpected end of stream`}},
		"a stray bracket":    {file: "]", want: []string{`s.yaml:1: it is no YAML: did not find expected node content`}},
		"a tabulator":        {file: "limits:\n\twait: 3s\n", want: []string{`s.yaml:2: it is no YAML: found character`}},
		"not indented":       {file: "name: a\nlimits:\n    wait: 3s\n  deny: []\n", want: []string{`s.yaml:4: it is no YAML: did not find expected key`}},
		"two documents":      {file: "name: a\n---\nname: b\n", want: []string{`s.yaml: it has a second document`}},
		"anchor":             {file: "name: &a x\nlimits: {deny: [*a]}", want: []string{`s.yaml:1:7: name: want string`, `s.yaml:2:17: limits.deny: want string, not an alias`}},
		"merge":              {file: "limits:\n  <<: {circuits: 3}\n", want: []string{`s.yaml:2:3: limits: a key must be a word`}},
		"a list of settings": {file: "- name: a", want: []string{`s.yaml:1:1: a list stands where settings belong`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, tt.file, tt.flags...)
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d errors:\n%v", len(lines), err)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(lines[i], want) && !strings.Contains(lines[i], want) {
					t.Errorf("%s\nwant %s", lines[i], want)
				}
			}
			if _, ok := errors.AsType[*config.Error](err); !ok {
				t.Errorf("%T", err)
			}
		})
	}
}

// TestUnknownVariable: one that was mistyped is not passed over.
func TestUnknownVariable(t *testing.T) {
	for name, value := range map[string]string{ // of a Kubernetes service
		"MESH_TEST_SERVICE_HOST": "192.0.2.1", "MESH_TEST_SERVICE_PORT_HTTP": "80", "MESH_TEST_PORT": "tcp://192.0.2.1:80", "MESH_TEST_PORT_80_TCP_ADDR": "192.0.2.1",
		"MESH_TEST_MONITOR_SERVICE_PORT": "9464", "MESH_TEST_MONITOR_PORT": "tcp://192.0.2.1:9464", // of meshtest-monitor
	} {
		t.Setenv(name, value)
	}
	if _, _, err := load(t, "name: a\n"); err != nil {
		t.Error(err)
	}
	t.Setenv("MESH_TEST_LIMITS_DENNY", "x")
	_, _, err := load(t, "name: a\n")
	if e, ok := errors.AsType[*config.Error](err); !ok || e.Where != "MESH_TEST_LIMITS_DENNY" || !strings.Contains(e.Text, "no setting has this variable; log.level has MESH_TEST_LOG_LEVEL") {
		t.Error(err)
	}
}

// TestFiles: one that is not there, too large, or empty.
func TestFiles(t *testing.T) {
	c, err := config.New("mesh-test", fresh())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(filepath.Join(t.TempDir(), "none"), false); err != nil {
		t.Error(err)
	}
	if err := c.Load(filepath.Join(t.TempDir(), "none"), true); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, _, err := load(t, strings.Repeat("# much\n", 1<<18)); err == nil || !strings.Contains(err.Error(), "is it the right file?") {
		t.Error(err)
	}
	if _, _, err := load(t, "# nothing\n"); err != nil {
		t.Error(err)
	}
}

// TestPrint: what is printed is read back as the same, and says whence.
func TestPrint(t *testing.T) {
	s, c, err := load(t, "name: \"a: b\"\nlisten: [/ip4/192.0.2.1/tcp/1/ws]\nlimits: {deny: [\"x, y\", '#z'], rate: 1500}\nlog: {level: error, json: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	again, _, err := load(t, b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(s, again) {
		t.Errorf("%+v\n%+v\n%s", s, again, b.String())
	}
	if !strings.Contains(b.String(), "# how long (duration; from default)\n  wait: 1m0s\n") {
		t.Error(b.String())
	}
}

// TestNone: what may be none is so when nothing is written, and an item of a list may not.
func TestNone(t *testing.T) {
	t.Setenv("MESH_TEST_PUBLIC", "")
	s, _, err := load(t, "public: /ip4/192.0.2.1/tcp/1\n")
	if err != nil || s.Public.Multiaddr != nil {
		t.Error(s.Public, err)
	}
	if _, _, err := load(t, "listen: ['']\n"); err == nil {
		t.Error("an address that is none is in a list")
	}
}

// TestBinding: structs that can't hold settings.
func TestBinding(t *testing.T) {
	type nameless struct{ A string }
	type helpless struct {
		A string `name:"a"`
	}
	type twice struct {
		A string `name:"a" help:"x"`
		B string `name:"a" help:"x"`
	}
	for _, s := range []any{nil, settings{}, &nameless{}, &helpless{}, &twice{}} {
		if _, err := config.New("x", s); err == nil {
			t.Errorf("%T is taken", s)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("name: a\nlisten: [/ip4/192.0.2.1/tcp/1]\nlimits: {wait: 3s}\n")
	f.Add("a: &a [*a]")
	f.Add("? [x]\n: y\n")
	f.Fuzz(func(t *testing.T, file string) {
		_, c, err := load(t, file)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		if _, _, err := load(t, b.String()); err != nil {
			t.Errorf("what is printed is not read: %v\n%s", err, b.String())
		}
	})
}

// TestAgain: a file is read once more, under the same flags, and what changed is told; the old settings stay.
func TestAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type both struct {
		A string   `name:"a" help:"a"`
		B []string `name:"b" help:"b"`
		C int      `name:"c" help:"c"`
	}
	old, fresh := both{A: "default", C: 1}, both{A: "default", C: 1}
	c, err := config.New("test", &old)
	if err != nil {
		t.Fatal(err)
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.AddFlags(fs)
	if err := fs.Parse([]string{"--c=7"}); err != nil {
		t.Fatal(err)
	}
	write("a: one\nb: [x]\nc: 2\n")
	if err := c.Load(path, true); err != nil {
		t.Fatal(err)
	}
	write("b: [x, y]\nc: 3\n")
	again, err := c.Again(&fresh)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Load(path, true); err != nil {
		t.Fatal(err)
	}
	if got := again.Changed(c); !slices.Equal(got, []string{"a", "b"}) || fresh.A != "default" || fresh.C != 7 || old.A != "one" {
		t.Errorf("changed %v: %+v, %+v", got, old, fresh)
	}
	for name, change := range map[string]func() error{"emptied": func() error { return os.Truncate(path, 0) }, "removed": func() error { return os.Remove(path) }} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if again, err = c.Again(&both{}); err != nil {
			t.Fatal(err)
		}
		if err := again.Load(path, false); err == nil {
			t.Errorf("the file was %s, and that is taken for having no settings", name)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{}\n")
	if again, err = c.Again(&both{}); err != nil {
		t.Fatal(err)
	}
	if err := again.Load(path, false); err != nil {
		t.Error("to have no settings:", err)
	}
}
