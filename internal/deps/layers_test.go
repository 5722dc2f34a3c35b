package deps

import (
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers says, for each package, which others of ours it may depend on, tests
// apart. The first row that matches decides; a package that none matches fails,
// so that whoever adds one says where it stands.
var layers = []struct {
	pkg string
	may []string
	why string
}{
	{"./internal/deps/...", nil, "it looks at the tree from outside"},
	{"./internal/buf", nil, "every layer may use it, so it may use none"},
	{"./internal/atomicfile", nil, "whatever keeps a file may use it, so it may use none"},
	{"./identity/...", []string{"./identity/...", "./internal/atomicfile"},
		"who a peer is depends on nothing that peers do"},
	{"./frame", nil,
		"a wire codec is bytes in, bytes out: it must stay possible to test it, and to use it, alone"},
	{"./splitter/padding", nil, "when to pad is decided on times and counts alone"},
	{"./splitter", []string{"./internal/buf"},
		"which path carries a byte is decided without knowing how it is sealed (frame) or kept alive (session)"},
	{"./transport/...", []string{"./transport/...", "./identity/...", "./internal/buf"},
		"a transport carries bytes for anyone: what it knew of sessions or frames, each new transport would have to learn"},
	{"./registry/multi", []string{"./registry", "./identity"},
		"it combines the directories that it is given, so it links none"},
	{"./registry/http", []string{"./registry", "./identity"},
		"it serves any directory, so it links none"},
	{"./registry/bootstrap", []string{"./registry", "./identity", "./transport"},
		"it finds addresses, as transport spells them, before there is a node"},
	{"./registry/file", []string{"./registry", "./identity", "./internal/atomicfile"},
		"files are kept without any other directory"},
	{"./registry/...", []string{"./registry/...", "./identity/..."},
		"where a peer is, is a fact that outlives any session with it"},
	{"./internal/kad", []string{"./identity", "./registry"},
		"whom to ask, and what to keep, is decided without a network: a simulation runs the same code"},
	{"./dht", []string{"./identity", "./registry", "./internal/atomicfile", "./internal/kad"},
		"it asks over whatever dials by ID; a node that imported it would make every program link it"},
	{"./internal/handshake", []string{"./identity", "./frame", "./internal/buf"},
		"one handshake serves every path, so it knows neither transports nor sessions"},
	{"./internal/rekey", nil, "it works on bytes and secrets: sessions seal, and send what it says"},
	{"./blob", []string{"./splitter", "./internal/buf"},
		"a blob proves itself, whatever carried its parts"},
	{"./internal/mux", []string{"./internal/buf"},
		"streams run over any ordered pipe; a lane is one"},
	{"./internal/session", []string{"./identity", "./frame", "./splitter", "./internal/buf", "./internal/handshake", "./internal/mux", "./internal/rekey", "./splitter/padding"},
		"a session takes paths that somebody else has found and connected: it neither dials nor looks up"},
	{"./mesh", []string{
		"./identity", "./identity/keystore", "./frame", "./splitter", "./registry", "./registry/bootstrap",
		"./transport", "./transport/websocket", "./transport/internal/gate", "./transport/tcp",
		"./internal/atomicfile", "./internal/buf", "./internal/handshake", "./internal/mux", "./internal/session", "./internal/rekey", "./splitter/padding", "./blob",
	}, "the node composes the layers; directories and further adapters are values that its user hands to it"},
	{module, nil, "the root package is the map, not a door"},
}

func TestLayers(t *testing.T) {
	for _, p := range goList(t, nil, "./...") {
		if !ours(p.ImportPath) {
			continue
		}
		found := false
		for _, row := range layers {
			if !under(p.ImportPath, row.pkg) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				if ours(dep) && !under(dep, row.may...) {
					t.Errorf("%s depends on %s, which it may not: %s", p.ImportPath, dep, row.why)
				}
			}
			break
		}
		if !found {
			t.Errorf("%s is in no row of layers: add one that says what it may import, and why", p.ImportPath)
		}
	}
}

// importers says, for each import that is not for everybody, who may import it
// directly. Packages in tests may do so in their _test.go files; those in code
// may do so there too. An import may stand in several rows that all hold.
var importers = []struct {
	imports string
	code    []string
	tests   []string
	why     string
}{
	{"github.com/flynn/noise", []string{"./internal/handshake"}, nil,
		"its traps (a psk not yet set, a live channel binding, state after an error) are handled in one place"},
	{"github.com/coder/websocket/...", []string{"./transport/websocket"}, nil,
		"everything above sees a net.Conn, so that any transport can take its place"},
	{"github.com/hashicorp/yamux", nil, []string{"./internal/mux"},
		"it is what our implementation of its wire format is tested against, not what carries streams"},
	{"filippo.io/age/...", []string{"./identity/keystore"}, nil,
		"the keystore is the only file that is encrypted, and who keeps keys elsewhere must not link it"},
	{"filippo.io/edwards25519/...", []string{"./identity/..."}, nil,
		"points are parsed where low-order and non-canonical ones are refused"},
	{"github.com/zalando/go-keyring", []string{"./identity/keychain"}, nil,
		"who doesn't want the system's keychain must not link it"},
	{"github.com/fxamacker/cbor/v2", []string{"./registry/...", "./dht"}, nil,
		"records, and the queries about them, are the only CBOR; the wire of paths has fixed layouts"},
	{"github.com/google/go-cmp/...", nil, []string{module + "/..."},
		"it panics on purpose and says so: tests only"},
	{"go.uber.org/goleak", []string{"./transport/transporttest", "./registry/registrytest"}, []string{module + "/..."},
		"it is for TestMain and for conformance suites: tests only"},
	{"golang.org/x/net/nettest", []string{"./transport/transporttest"}, []string{module + "/..."},
		"it is a test suite"},
	{"testing", []string{"./transport/transporttest", "./transport/internal/stall", "./registry/registrytest"}, []string{module + "/..."},
		"importing it adds a test framework to every program; conformance suites are the exception, and nobody links them"},
	{"math/rand/...", []string{"./splitter", "./splitter/padding", "./transport/link", "./transport/memory", "./transport/transporttest", "./internal/session", "./mesh"}, []string{module + "/..."},
		"what makes keys, nonces and identities must be crypto/rand; chance that needs no secrecy lives elsewhere"},
	{"expvar", nil, nil, "it registers an HTTP handler in init"},
	{"net/http/pprof", nil, nil, "it registers HTTP handlers in init"},
}

func TestImporters(t *testing.T) {
	for _, p := range goList(t, nil, "./...") {
		for _, row := range importers {
			for _, imp := range p.Imports {
				if under(imp, row.imports) && !under(p.ImportPath, row.code...) {
					t.Errorf("%s imports %s, which it may not: %s", p.ImportPath, imp, row.why)
				}
			}
			for _, imp := range append(p.TestImports, p.XTestImports...) {
				if under(imp, row.imports) && !under(p.ImportPath, row.code...) && !under(p.ImportPath, row.tests...) {
					t.Errorf("%s imports %s in its tests, which it may not: %s", p.ImportPath, imp, row.why)
				}
			}
		}
	}
}

// sansIO are the packages that hold protocol logic: bytes and now in, actions
// out. Edge are the files that may connect it to sockets and clocks.
var sansIO = []struct {
	dir  string
	edge []string
}{
	{"frame", nil},
	{"splitter", nil},
	{"internal/handshake", []string{"run.go"}},
	{"internal/rekey", nil},
	{"splitter/padding", nil},
	{"registry/mdns", []string{"directory.go", "socket.go", "reuse_linux.go", "reuse_other.go"}},
}

func TestSansIO(t *testing.T) {
	for _, row := range sansIO {
		files, err := filepath.Glob(filepath.Join(root, row.dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files to look at: %v", row.dir, err)
		}
		set := token.NewFileSet()
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || slices.Contains(row.edge, filepath.Base(file)) {
				continue
			}
			for _, spec := range parse(t, set, file).Imports {
				imp, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if under(imp, "net/...", "os/...", "syscall", "log") {
					t.Errorf("%s imports %s, but holds protocol logic: sockets, files and waiting belong to its callers", file, imp)
				}
			}
		}
	}
}

func TestFrameStandsAlone(t *testing.T) {
	for _, p := range goList(t, nil, "./...") {
		if !under(p.ImportPath, "./frame") {
			continue
		}
		for _, dep := range p.Deps {
			if !standard(dep) && !under(dep, "golang.org/x/crypto/...", "golang.org/x/sys/cpu") {
				t.Errorf("%s depends on %s: the codec of the wire is the standard library and x/crypto only", p.ImportPath, dep)
			}
		}
	}
}
