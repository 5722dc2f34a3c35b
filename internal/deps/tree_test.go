package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// walk calls visit with each file of the repository, by its path from here.
// It leaves out what git keeps or ignores, and editors' own directories.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root {
			hidden := strings.HasPrefix(name, ".") && name != ".ci" && name != ".github"
			if hidden || path == filepath.Join(root, "bin") {
				return fs.SkipDir
			}
		}
		if d.Type().IsRegular() {
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// parse reads a Go file with its comments.
func parse(t *testing.T, set *token.FileSet, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPackageComments wants one comment for each package, in one place: go doc
// joins several in the order of their files' names.
func TestPackageComments(t *testing.T) {
	comments := map[string][]string{} // by directory, its package comments
	names := map[string]string{}
	set := token.NewFileSet()
	walk(t, func(path string) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return
		}
		dir := filepath.Dir(path)
		f := parse(t, set, path)
		names[dir] = f.Name.Name
		if f.Doc != nil {
			comments[dir] = append(comments[dir], f.Doc.Text())
		}
	})
	if len(names) < 2 {
		t.Fatalf("found %d packages: this test looks in the wrong place", len(names))
	}
	for dir, name := range names {
		switch docs := comments[dir]; {
		case len(docs) != 1:
			t.Errorf("%s: package %s has %d package comments, want 1", dir, name, len(docs))
		case name != "main" && !strings.HasPrefix(docs[0], "Package "+name+" "):
			t.Errorf("%s: the package comment starts %.30q, want %q", dir, docs[0], "Package "+name+" …")
		}
	}
}

// TestNoSleep refuses time.Sleep. In a test it makes the result depend on how
// busy the machine is, unless the clock is synctest's; elsewhere it waits where
// neither a context nor Close can reach. A sleep on synctest's clock stands inside
// the call of synctest.Test, or, when a helper sleeps, in a file that imports
// synctest and on a line that says so in a comment: // virtual.
func TestNoSleep(t *testing.T) {
	walk(t, func(path string) {
		if filepath.Ext(path) != ".go" {
			return
		}
		set := token.NewFileSet()
		f := parse(t, set, path)
		virtual := map[int]bool{} // lines with the comment
		for _, imp := range f.Imports {
			if imp.Path.Value == `"testing/synctest"` {
				virtual = linesThatSay(set, f, "virtual")
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if pos := set.Position(call.Pos()); isCall(call, "time", "Sleep") && !virtual[pos.Line] {
				t.Errorf("%v: time.Sleep: wait for the thing itself, on a channel, or under synctest.Test", pos)
			}
			// What is written inside synctest.Test(t, func…) sleeps on its clock.
			return !isCall(call, "synctest", "Test")
		})
	})
}

// linesThatSay returns the lines of f that have a comment with that word.
func linesThatSay(set *token.FileSet, f *ast.File, word string) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if strings.Contains(c.Text, word) {
				lines[set.Position(c.Pos()).Line] = true
			}
		}
	}
	return lines
}

// isCall reports whether call calls the function name of the package pkg, going
// by the names that everybody gives to imports.
func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(<?([^)>\s]+)>?(?:\s+"[^"]*")?\)|(?m:^\[[^\]]+\]:\s+(\S+))`)
	heading  = regexp.MustCompile(`(?m)^#{1,6}[ \t]+(.+?)[ \t]*#*$`)
	remote   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	notSlug  = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]+`)
)

// anchors returns the fragments that GitHub gives to the headings of a file.
func anchors(markdown string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(markdown, ""), -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		slug = strings.ReplaceAll(slug, " ", "-")
		for unique, i := slug, 1; ; i++ {
			if !found[unique] {
				found[unique] = true
				break
			}
			unique = slug + "-" + strconv.Itoa(i)
		}
	}
	return found
}

// TestLinks follows every relative link of every Markdown file, to the heading
// where it names one.
func TestLinks(t *testing.T) {
	walk(t, func(path string) {
		if filepath.Ext(path) != ".md" {
			return
		}
		text := readFile(t, path)
		prose := codeSpan.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			target := m[1] + m[2]
			if remote.MatchString(target) {
				continue
			}
			file, fragment, _ := strings.Cut(target, "#")
			to, content := path, text
			if file != "" {
				to = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
				if _, err := os.Stat(to); err != nil {
					t.Errorf("%s: link to %s: no such file", path, target)
					continue
				}
			}
			if fragment == "" || filepath.Ext(to) != ".md" {
				continue
			}
			if to != path {
				content = readFile(t, to)
			}
			if !anchors(content)[fragment] {
				t.Errorf("%s: link to %s: no such heading", path, target)
			}
		}
	})
}

// machinePath matches an absolute path that only a particular machine has.
var machinePath = regexp.MustCompile(`(?m)(?:^|[\s"'=(\[:,` + "`" + `])((?:/(?:home|Users|root|work)/|[A-Z]:\\Users\\)[\w.-]+)`)

// TestNoMachinePaths refuses paths of the machine that something was written or
// generated on: they mean nothing elsewhere, and say who it was.
func TestNoMachinePaths(t *testing.T) {
	walk(t, func(path string) {
		if strings.Contains(filepath.ToSlash(path), "/testdata/fuzz/") {
			return // the fuzzer's inputs are arbitrary
		}
		for _, m := range machinePath.FindAllStringSubmatch(readFile(t, path), -1) {
			t.Errorf("%s: holds %q, a path of one machine", path, m[1])
		}
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
