package deps

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"testing"
)

// forbidden is what a program that imports mesh never gets with it.
var forbidden = []struct {
	deps string
	why  string
}{
	{"./dht/...", "a directory is a value that the node is given; who uses none must not link one"},
	{"./registry/mdns/...", "whether a node speaks to its local network is its user's to say; who doesn't want that must not link it"},
	{"./transport/memory/...", "it stays within the process, for tests"},
	{"./transport/link/...", "it emulates links, for tests"},
	{"./transport/transporttest/...", "it is a test suite"},
	{"./registry/registrytest/...", "it is a test suite"},
	{"testing/...", "it is a test framework"},
	{"golang.org/x/net/nettest", "it is a test suite"},
	{"github.com/google/go-cmp/...", "it is for tests"},
	{"go.uber.org/goleak/...", "it is for tests"},
	{"github.com/hashicorp/...", "its yamux is only what ours is tested against"},
	{"github.com/zalando/go-keyring", "the system's keychain is an option, and drags in D-Bus"},
	{"github.com/godbus/...", "the system's keychain is an option"},
	{"github.com/danieljoos/...", "the system's keychain is an option"},
	{"github.com/ethereum/...", "the chain is an adapter, and a module of its own"},
	{"gvisor.dev/...", "a TCP/IP stack is for the VPN, which is a program of its own"},
	{"golang.zx2c4.com/...", "TUN devices are for the VPN, which is a program of its own"},
	{"github.com/pion/...", "WebRTC is an adapter, and a module of its own"},
	{"github.com/libp2p/...", "its peer IDs are a multihash and base58; the rest is a stack of its own"},
	{"github.com/quic-go/...", "there is no QUIC transport; as an adapter it would be a module of its own"},
	{"google.golang.org/...", "no protocol of ours is protobuf, no service gRPC"},
	{"github.com/gogo/...", "no protocol of ours is protobuf"},
	{"database/...", "a node without a database is the normal one"},
	{"modernc.org/...", "SQLite is an adapter, and a module of its own"},
	{"github.com/mattn/...", "SQLite is an adapter, and a module of its own"},
	{"go.etcd.io/...", "etcd is an adapter, and a module of its own"},
	{"github.com/prometheus/...", "metrics are read from Stats by whoever wants them, in the library they want"},
	{"go.opentelemetry.io/...", "metrics are read from Stats by whoever wants them, in the library they want"},
	{"github.com/sirupsen/...", "logs go to log/slog"},
	{"go.uber.org/zap/...", "logs go to log/slog"},
	{"gopkg.in/...", "configuration files are read by programs, not by the library"},
	{"text/template/...", "it calls methods by name, so the linker must keep every exported method of the program"},
	{"html/template/...", "it calls methods by name, so the linker must keep every exported method of the program"},
	{"expvar", "it registers an HTTP handler in init"},
	{"net/http/pprof", "it registers HTTP handlers in init"},
	{"plugin", "it keeps the linker from removing anything"},
}

// platforms are those whose imports differ by files built for them alone.
var platforms = [][]string{
	{"GOOS=linux", "GOARCH=amd64"},
	{"GOOS=darwin", "GOARCH=arm64"},
	{"GOOS=windows", "GOARCH=amd64"},
	{"GOOS=js", "GOARCH=wasm"},
}

func TestMeshImports(t *testing.T) {
	for _, env := range platforms {
		t.Run(env[0], func(t *testing.T) {
			for _, p := range goList(t, env, "./mesh") {
				for _, dep := range p.Deps {
					for _, row := range forbidden {
						if under(dep, row.deps) {
							t.Errorf("importing mesh brings in %s, which it must not: %s", dep, row.why)
						}
					}
				}
			}
		})
	}
}

const (
	maxHelloBytes = 10_000_000
	maxHelloDeps  = 26
)

// TestHello builds the smallest program that dials, and weighs it.
func TestHello(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hello")
	// One platform, so that the figures are the same on every machine.
	goCommand(t, []string{"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0"},
		"build", "-trimpath", "-ldflags=-s -w", "-o", file, "./internal/deps/testdata/hello")

	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	built, err := buildinfo.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The program is part of our module here; in an importer's, the module
	// itself is one more line of go version -m.
	deps := len(built.Deps) + 1
	t.Logf("a program that dials is %.1f MB stripped, with %d modules", float64(info.Size())/1e6, deps)
	if info.Size() > maxHelloBytes {
		t.Errorf("a program that dials is %d bytes, want at most %d: what was imported?", info.Size(), maxHelloBytes)
	}
	if deps > maxHelloDeps {
		t.Errorf("a program that dials has %d modules, want at most %d:", deps, maxHelloDeps)
		for _, dep := range built.Deps {
			t.Logf("%s %s", dep.Path, dep.Version)
		}
	}
}
