package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/mesh"
)

// runVariable has the test binary be meshchat itself.
const runVariable = "SPLITMESH_MESHCHAT_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// relays starts as many on loopback, each of which carries so many bytes a second, or 0 for any number, and returns the setting that names them.
func relays(t *testing.T, n, rate int) (all []*mesh.Node, bootstrap string) {
	t.Helper()
	a, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/0/ws")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for range n {
		r := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{a}, Relay: &mesh.RelayConfig{BytesPerSecond: rate}}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		all = append(all, r)
		texts = append(texts, r.Addrs()[0].String())
	}
	return all, strings.Join(texts, ",")
}

// environment is that of a person whose program knows the relays.
func environment(t *testing.T, nick, bootstrap string) []string {
	t.Helper()
	return []string{
		runVariable + "=1", "HOME=" + t.TempDir(), "STATE_DIRECTORY=" + stateDir(t), "MESHCHAT_NICK=" + nick,
		"MESHCHAT_NODE_BOOTSTRAP=" + bootstrap, "MESHCHAT_NODE_DHT=false", "TZ=UTC", "GORACE=" + os.Getenv("GORACE"),
	}
}

// stateDir is short enough for a socket.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chat") //nolint:usetesting // a path short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func executable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// once runs one command to its end. out is what it prints, and of one that failed what it says of that.
func once(t *testing.T, env []string, args ...string) (out string, status int) {
	t.Helper()
	out, errs, status := onceApart(t, env, args...)
	if status != 0 {
		out += errs
	}
	return strings.TrimSpace(out), status
}

// onceApart is once, with what stands on stderr apart.
func onceApart(t *testing.T, env []string, args ...string) (out, errs string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), executable(t), args...)
	cmd.Env = env
	var told strings.Builder
	cmd.Stderr = &told
	b, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), told.String(), cmd.ProcessState.ExitCode()
}

// A plainRun is "meshchat run --plain".
type plainRun struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	mu    sync.Mutex
	lines []string
	ended chan struct{}
}

func startPlain(t *testing.T, env []string) *plainRun {
	t.Helper()
	return start(t, env, "--plain")
}

func start(t *testing.T, env []string, how string) *plainRun {
	t.Helper()
	p := &plainRun{t: t, cmd: exec.CommandContext(t.Context(), executable(t), "run", how), ended: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stderr = t.Output()
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *plainRun) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	_ = p.cmd.Wait()
}

func (p *plainRun) types(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.t.Fatal(err)
	}
}

// says waits for a line that contains all of the parts.
func (p *plainRun) says(parts ...string) string {
	p.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		all := strings.Join(p.lines, "\n")
		for _, l := range p.lines {
			found := true
			for _, part := range parts {
				found = found && strings.Contains(l, part)
			}
			if found {
				p.mu.Unlock()
				return l
			}
		}
		p.mu.Unlock()
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("no line has %q:\n%s", parts, all)
		}
	}
}

// TestPlain: two processes meet by invitation, talk and send a file; commands reach the one that runs, and wait for the one
// that does not; kill -9 loses nothing.
func TestPlain(t *testing.T) {
	_, bootstrap := relays(t, 2, 0)
	annEnv, bobEnv := environment(t, "Ann", bootstrap), environment(t, "Bob", bootstrap)
	invitation, status := once(t, annEnv, "invite")
	if status != 0 || !strings.HasPrefix(invitation, "meshchat:") {
		t.Fatal(status, invitation)
	}
	join := exec.CommandContext(t.Context(), executable(t), "join", "-")
	join.Env, join.Stdin = bobEnv, strings.NewReader(invitation[:50]+"  \r\n │ "+invitation[50:]+"\r\n")
	if out, err := join.CombinedOutput(); err != nil || !strings.Contains(string(out), "ann is a contact") {
		t.Fatal(string(out), err)
	}
	if out, status := once(t, bobEnv, "send", "ann", "written", "before", "we", "met"); status != 0 {
		t.Fatal(status, out)
	}
	ann, bob := startPlain(t, annEnv), startPlain(t, bobEnv)
	ann.says("* bob has joined by your invitation")
	ann.says("bob: written before we met")
	bob.says("* to ann", "read")
	ann.types("/with bob")
	ann.types("hello \x1b[31mbob")
	bob.says("ann: hello ·[31mbob")
	if out, status := once(t, bobEnv, "send", "ann", "by", "the", "socket"); status != 0 {
		t.Fatal(status, out)
	}
	ann.says("bob: by the socket")
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("the notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ann.types("/file bob " + path)
	bob.says("file 1 from ann: notes.txt, 10 B: offered, /get 1 takes it")
	bob.types("/get 1")
	done := bob.says("file 1 from ann", "done: ")
	_, got, _ := strings.Cut(done, "done: ")
	if b, err := os.ReadFile(got); err != nil || string(b) != "the notes\n" {
		t.Error(string(b), err)
	}
	ann.types("/room new garden bob")
	bob.says("* ann has put you in the room #garden")
	bob.types("/msg #garden what a garden")
	ann.says("#garden [", "bob: what a garden")
	ann.types("/verify bob")
	words := ann.says("    ")
	bob.types("/verify ann")
	bob.says(words)

	bob.kill()
	for i := range 5 {
		ann.types(fmt.Sprint("while you were gone ", i))
	}
	ann.types("/msg nobody hello")
	ann.says(`! "nobody": no contact`)
	ann.kill() // what it said is on the disk
	bob = startPlain(t, bobEnv)
	startPlain(t, annEnv)
	bob.says("ann: while you were gone 4")
	if out, _ := once(t, bobEnv, "history", "ann", "5"); strings.Count(out, "while you were gone") != 5 {
		t.Error(out)
	}
	out, _ := once(t, bobEnv, "history", "ann", "--json")
	if !strings.Contains(out, `"Text": "while you were gone 0"`) {
		t.Error(out)
	}
	if err := bob.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-bob.ended
	if err := bob.cmd.Wait(); err != nil {
		t.Error("SIGINT:", err)
	}
}

// TestCommandLine: what is wrong is told with its exit status.
func TestCommandLine(t *testing.T) {
	env := environment(t, "Ann", "")
	for _, tt := range []struct {
		status int
		out    string
		args   []string
	}{
		{1, "there is no chat in", []string{"contacts"}},
		{1, "there is no chat in", []string{"send", "bob", "hello"}},
		{1, "there is no chat in", []string{"do", "me"}},
		{0, "/verify WHO", []string{"do", "help"}},
		{1, "there is no chat in", []string{"doctor", "bob"}},
		{0, "meshchat:", []string{"invite"}},
		{0, "nobody yet", []string{"contacts"}},
		{1, "no contact, request or room is called so", []string{"send", "bob", "hello"}},
		{1, "not an invitation", []string{"join", "meshchat:AAAA"}},
		{1, "your own", nil},
		{2, "requires", []string{"join"}},
		{2, "wrong usage", []string{"do", "nothing"}},
		{0, "/verify WHO", []string{"do", "help"}},
		{2, "run --plain", []string{"run"}},
		{2, "run --plain", []string{}},
		{2, "exclude each other", []string{"run", "--plain", "--background"}},
		{1, "no contact, request or room is called so", []string{"doctor", "bob"}},
		{1, "a mistyped ID", []string{"send", strings.Repeat("a", 56), "hello"}},
		{1, "bad target", []string{"doctor", strings.Repeat("a", 56)}},
		{3, "MESHCHAT_PATHS", []string{"contacts"}},
		{3, "MESHCHAT_RELAYED_ONLY", []string{"contacts"}},
	} {
		e := env
		if tt.status == 3 {
			e = append([]string{"MESHCHAT_PATHS=9", "MESHCHAT_RELAYED_ONLY=true", "MESHCHAT_NODE_LISTEN=/ip4/127.0.0.1/tcp/0/ws"}, env...)
		}
		if tt.args == nil {
			own, _ := once(t, env, "invite")
			tt.args = []string{"join", own[strings.LastIndexByte(own, '\n')+1:]} // behind what is said of it
		}
		if strings.Contains(tt.out, "no chat") {
			dir := filepath.Join(stateDir(t), "mistyped")
			e = append(env[:len(env):len(env)], "STATE_DIRECTORY="+dir)
			defer func() {
				if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%v has made something: %v", tt.args, err)
				}
			}()
		}
		if out, status := once(t, e, tt.args...); status != tt.status || !strings.Contains(out, tt.out) {
			t.Errorf("%v: %d: %s", tt.args, status, out)
		}
	}
}

// TestInviteAlone: who makes an invitation that nobody can follow is told what to set, also while the program runs.
func TestInviteAlone(t *testing.T) {
	env := environment(t, "Ann", "")
	alone := func() {
		t.Helper()
		if _, out, status := onceApart(t, env, "invite"); status != 0 || !strings.Contains(out, "the invitation holds no address: nobody can reach this node: set node.bootstrap") {
			t.Errorf("status %d: %s", status, out)
		}
	}
	alone()
	p := startPlain(t, env)
	p.types("/me")
	p.says("nick   Ann")
	alone()
	_, bootstrap := relays(t, 1, 0)
	if _, out, status := onceApart(t, environment(t, "Bob", bootstrap), "invite"); status != 0 || strings.Contains(out, "holds no address") {
		t.Errorf("status %d: %s", status, out)
	}
	late := append(environment(t, "Carl", "https://127.0.0.1:1"), "MESHCHAT_NODE_DHT=true")
	if _, out, status := onceApart(t, late, "invite"); status != 0 || !strings.Contains(out, "the invitation holds no address: this node's are known only while meshchat runs") {
		t.Errorf("status %d: %s", status, out)
	}
	startPlain(t, late)
	again := time.NewTicker(50 * time.Millisecond) // until the node runs
	defer again.Stop()
	for deadline := time.After(time.Minute); ; {
		_, out, status := onceApart(t, late, "invite")
		if status == 0 && strings.Contains(out, "the invitation holds no address: no relay serves this node so far") {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("status %d: %s", status, out)
		}
	}
}
