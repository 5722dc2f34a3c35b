package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/splitmesh/splitmesh"

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string // transitive, without tests
}

// goCommand runs the go command at the root of the module, outside any
// workspace: what it then says is what an importer of the module would see.
func goCommand(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// goList returns what go list says of the packages that patterns match.
func goList(t *testing.T, env []string, patterns ...string) []pkg {
	t.Helper()
	args := append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, patterns...)
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(goCommand(t, env, args...))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("reading what go list says: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// under reports whether path is one of patterns or, where a pattern ends in
// /..., below it. Patterns starting with ./ are relative to our module.
func under(path string, patterns ...string) bool {
	for _, p := range patterns {
		if rest, ok := strings.CutPrefix(p, "./"); ok {
			p = module + "/" + rest
		}
		tree, isTree := strings.CutSuffix(p, "/...")
		if path == tree || isTree && strings.HasPrefix(path, tree+"/") {
			return true
		}
	}
	return false
}

// ours reports whether path is a package of this module.
func ours(path string) bool { return under(path, module+"/...") }

// standard reports whether path is a package of Go itself: only others have a
// dot in their first element. What the standard library vendors is its own.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
