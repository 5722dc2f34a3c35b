package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/file"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parseID(t testing.TB, s string) identity.ID {
	t.Helper()
	id, err := identity.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// An office is a hosts file, whoever uses it, and their clock.
type office struct {
	*file.Hosts
	clock *registrytest.Clock
	log   *bytes.Buffer
	path  string
}

func newOffice(t *testing.T) *office {
	o := &office{clock: registrytest.NewClock(), log: new(bytes.Buffer), path: filepath.Join(t.TempDir(), "hosts")}
	o.Hosts = &file.Hosts{Path: o.path, Now: o.clock.Now, Logger: slog.New(slog.NewTextHandler(o.log, nil))}
	return o
}

// write replaces the file by one whose time is the clock's.
func (o *office) write(t *testing.T, text string) {
	t.Helper()
	fresh := o.path + ".new"
	if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.date(t, fresh, o.clock.Now())
	if err := os.Rename(fresh, o.path); err != nil {
		t.Fatal(err)
	}
}

// overwrite changes the file where it is, and gives it that time.
func (o *office) overwrite(t *testing.T, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(o.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.date(t, o.path, at)
}

func (o *office) date(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// is checks whom ann is, a second later.
func (o *office) is(t *testing.T, want string) {
	t.Helper()
	o.clock.Advance(time.Second)
	o.isStill(t, want)
}

func (o *office) isStill(t *testing.T, want string) {
	t.Helper()
	got, ok := o.Petname("ann")
	if want == "" && (ok || !got.IsZero()) || want != "" && (!ok || got != parseID(t, want)) {
		t.Fatalf("ann is %v, %v; want %q", got, ok, want)
	}
}

func (o *office) warnings() int { return strings.Count(o.log.String(), "level=WARN") }

func TestHosts(t *testing.T) {
	o := newOffice(t)
	o.write(t, string(sample(t)))
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleInWords, inWords(o.Peers())); diff != "" {
		t.Error(diff)
	}
	if got := o.Addrs(parseID(t, one)); len(got) != 2 || got[0].String() != "/dns4/gate.example.com/tcp/443/wss"+peerOne {
		t.Errorf("Addrs: %v", got)
	}
	for _, s := range []string{two, registrytest.Key(t).ID().String()} {
		if got := o.Addrs(parseID(t, s)); got != nil {
			t.Errorf("Addrs of one who has none: %v", got)
		}
	}
	if id, ok := o.Petname("laptop"); !ok || id != parseID(t, two) {
		t.Errorf("Petname: %v, %v", id, ok)
	}
	for _, name := range []string{"", "Ann", "an", one} {
		if id, ok := o.Petname(name); ok || !id.IsZero() {
			t.Errorf("Petname of %q: %v, %v", name, id, ok)
		}
		if id, err := o.Resolve(t.Context(), name); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Resolve of %q: %v, %v", name, id, err)
		}
	}
	if id, err := o.Resolve(t.Context(), "laptop"); err != nil || id != parseID(t, two) {
		t.Errorf("Resolve: %v, %v", id, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Resolve(ended, "laptop"); !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve when ctx has ended: %v", err)
	}
}

func TestHostsNoAliases(t *testing.T) {
	o := newOffice(t)
	o.write(t, string(sample(t)))
	peers, addrs := o.Peers(), o.Addrs(parseID(t, one))
	peers[0].Names[0], peers[0].Addrs[0][0], peers[1].ID = "scribble", peers[0].Addrs[1][0], peers[0].ID
	addrs[1][0], addrs[0] = addrs[0][1], nil
	if diff := cmp.Diff(sampleInWords, inWords(o.Peers())); diff != "" {
		t.Error(diff)
	}
}

func TestHostsFollowTheFile(t *testing.T) {
	o := newOffice(t)
	o.write(t, one+" ann")
	o.is(t, one)
	o.clock.Advance(time.Hour)
	o.isStill(t, one)
	o.write(t, two+" ann")
	o.clock.Advance(time.Second - 1)
	o.isStill(t, one) // once a second is enough
	o.clock.Advance(1)
	o.isStill(t, two)
	o.clock.Advance(-time.Hour) // a clock that was set back does not stop it
	o.write(t, three+" ann")
	o.isStill(t, three)
	if o.warnings() != 0 {
		t.Error(o.log)
	}
}

// Each of the file's time, its size and the file itself tells that it was changed.
func TestHostsWhatTells(t *testing.T) {
	o := newOffice(t)
	old := o.clock.Now().Add(-time.Hour)
	o.overwrite(t, one+" ann", old)
	o.is(t, one)
	o.overwrite(t, two+" ann", old.Add(1))
	o.is(t, two)
	o.overwrite(t, one+" ann #", old.Add(1))
	o.is(t, one)
	aside := o.path + ".aside"
	if err := os.Link(o.path, aside); err != nil { // so that the number of the file is not used again
		t.Fatal(err)
	}
	o.write(t, three+" ann #")
	o.date(t, o.path, old.Add(1))
	o.is(t, three)
	// Nothing tells here, and nothing is read: that is what it costs to look each second.
	o.overwrite(t, one+" ann #", old.Add(1))
	o.is(t, three)
}

// Two changes within a tick of the file system's clock have one time, so a young file is read again.
func TestHostsOfOneTick(t *testing.T) {
	o := newOffice(t)
	tick := o.clock.Now()
	o.overwrite(t, one+" ann", tick)
	o.isStill(t, one)
	o.overwrite(t, two+" ann", tick)
	o.is(t, two)
	o.overwrite(t, three+" ann", tick)
	o.is(t, three)
	if n := strings.Count(o.log.String(), "level=INFO"); n != 3 {
		t.Errorf("read %d times: %s", n, o.log)
	}
	o.is(t, three)
	o.is(t, three)
	if n := strings.Count(o.log.String(), "level=INFO"); n != 3 {
		t.Errorf("said of a file that did not change: %s", o.log)
	}
}

func TestHostsWithAnErrorLoseNothing(t *testing.T) {
	o := newOffice(t)
	o.write(t, one+" ann")
	o.is(t, one)
	o.write(t, "\n"+two+" Ann\n")
	for range 5 { // also when it is old enough not to be read again
		o.is(t, one)
		var he *file.HostsError
		if err := o.Err(); !errors.As(err, &he) || he.Path != o.path || he.Line != 2 || he.Column != 58 {
			t.Fatalf("Err: %v", err)
		}
	}
	if s := o.log.String(); o.warnings() != 1 || !strings.Contains(s, "line 2, column 58") || !strings.Contains(s, "Ann") {
		t.Errorf("the log is %s", s)
	}
	o.write(t, two+" ann\n"+three+" ann") // another error is told, too
	o.is(t, one)
	if o.warnings() != 2 {
		t.Errorf("the log is %s", o.log)
	}
	o.write(t, two+" ann\n")
	o.is(t, two)
	if err := o.Err(); err != nil {
		t.Error(err)
	}
	o.write(t, "") // whom nobody is meant to know is taken out on purpose
	o.is(t, "")
}

func TestHostsThatAreMissing(t *testing.T) {
	o := newOffice(t)
	for range 3 {
		o.is(t, "")
		if err := o.Err(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), o.path) {
			t.Fatalf("Err: %v", err)
		}
		if peers := o.Peers(); len(peers) != 0 {
			t.Fatalf("Peers: %v", peers)
		}
	}
	if o.warnings() != 1 {
		t.Errorf("the log is %s", o.log)
	}
	o.write(t, one+" ann")
	o.date(t, o.path, o.clock.Now().Add(-time.Hour))
	o.is(t, one)
	if err := os.Rename(o.path, o.path+".away"); err != nil {
		t.Fatal(err)
	}
	o.is(t, one)
	if err := o.Err(); !errors.Is(err, fs.ErrNotExist) || o.warnings() != 2 {
		t.Fatalf("Err: %v; the log is %s", err, o.log)
	}
	if err := os.Rename(o.path+".away", o.path); err != nil { // the very same
		t.Fatal(err)
	}
	o.is(t, one)
	if err := o.Err(); err != nil {
		t.Error(err)
	}
}

func TestHostsThatAreNoFile(t *testing.T) {
	o := newOffice(t)
	if err := os.Mkdir(o.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := o.Err(); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("Err of a directory: %v", err)
	}
	if err := os.Remove(o.path); err != nil {
		t.Fatal(err)
	}
	o.write(t, strings.Repeat("#\n", file.MaxHostsSize))
	o.clock.Advance(time.Second)
	if err := o.Err(); !errors.Is(err, file.ErrTooLarge) {
		t.Errorf("Err of a file that is too large: %v", err)
	}
}

func TestHostsConcurrency(t *testing.T) {
	o := newOffice(t)
	ids := map[identity.ID]bool{parseID(t, one): true, parseID(t, two): true}
	o.write(t, one+" ann")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // ends after as many questions
			for range 200 {
				if id, ok := o.Petname("ann"); !ok || !ids[id] {
					t.Errorf("ann is %v, %v", id, ok)
				}
				if peers := o.Peers(); len(peers) != 1 || len(o.Addrs(peers[0].ID)) != 0 {
					t.Errorf("Peers: %v", peers)
				}
				o.clock.Advance(time.Second)
			}
		})
	}
	for i := range 100 {
		o.write(t, []string{one, two}[i%2]+" ann")
	}
	wg.Wait()
}

func ExampleHosts() {
	dir, err := os.MkdirTemp("", "hosts")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hosts")
	text := `# the office
/dns4/gate.example.com/tcp/443/wss/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X  gate
nn44k7tkbfjdskbmasay5fqrf47qhjaadouxuvsmeocsupy6ux6nv2ib                                    ann laptop
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	hosts := &file.Hosts{Path: path}
	if err := hosts.Err(); err != nil { // later ones go to the Logger
		fmt.Println(err)
		return
	}
	gate, _ := hosts.Petname("gate")
	fmt.Println(hosts.Addrs(gate)[0])
	ann, _ := hosts.Petname("ann")
	fmt.Println(ann.Short(), len(hosts.Addrs(ann)))
	// Output:
	// /dns4/gate.example.com/tcp/443/wss/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X
	// nn44k7tk 0
}
