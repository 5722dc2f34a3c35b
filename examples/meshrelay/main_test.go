package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

// roleVariable has this test binary be the program itself: what a test starts is a real process.
const roleVariable = "MESHRELAY_TEST_IS_THE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Unsetenv(roleVariable)
		os.Exit(newProgram().Main())
	}
	goleak.VerifyTestMain(m)
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until polls for what there is no signal for.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("never: ", what)
		}
	}
}

// A process is a meshrelay that runs.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	state string
	ended chan struct{} // closed when it has; then err is set
	err   error

	mu    sync.Mutex
	lines []map[string]any // of its log
	raw   []byte
	news  chan struct{} // closed and replaced with each line
}

// programCommand is a command that runs meshrelay with the arguments. The settings of this machine's own are not used.
func programCommand(t testing.TB, args ...string) *exec.Cmd {
	if !slices.Contains(args, "--config") {
		args = append(args, "--config", write(t, filepath.Join(t.TempDir(), "empty.yaml"), ""))
	}
	cmd := exec.CommandContext(within(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"=1")
	return cmd
}

// ask runs a command of the program to its end.
func ask(t testing.TB, args ...string) (status int, out string) {
	t.Helper()
	b, err := programCommand(t, args...).CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode(), string(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(b)
}

// launch starts a relay, and has it end with the test.
func launch(t testing.TB, cmd *exec.Cmd, state string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, state: state, ended: make(chan struct{}), news: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go p.read(r)
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%v\n%s", cmd.Args[1:], p.raw)
		}
	})
	return p
}

// relayProcess starts `meshrelay run` with a state directory of its own and waits until it is ready.
func relayProcess(t testing.TB, args ...string) *process {
	t.Helper()
	state := filepath.Join(t.TempDir(), "s")
	p := launch(t, programCommand(t, append([]string{"run", "--state", state, "--log.format=json", "--monitor.listen=127.0.0.1:0"}, args...)...), state)
	p.waitLog("the relay is ready")
	return p
}

func (p *process) read(r *os.File) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		var line map[string]any
		_ = json.Unmarshal(s.Bytes(), &line) // what is no JSON stays in raw
		p.mu.Lock()
		p.raw = append(append(p.raw, s.Bytes()...), '\n')
		if line != nil {
			p.lines = append(p.lines, line)
		}
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
	close(p.ended)
}

// waitLog waits for a line of the log whose message it is, and returns it.
func (p *process) waitLog(msg string, with ...string) map[string]any {
	p.t.Helper()
	for ctx := within(p.t); ; {
		p.mu.Lock()
		lines, news := p.lines, p.news
		p.mu.Unlock()
	next:
		for _, l := range lines {
			if l["msg"] != msg {
				continue
			}
			for i := 0; i+1 < len(with); i += 2 {
				if l[with[i]] != with[i+1] {
					continue next
				}
			}
			return l
		}
		select {
		case <-news:
		case <-p.ended:
			p.t.Fatalf("it ended, and never said %q: %v\n%s", msg, p.err, p.raw)
		case <-ctx.Done():
			p.t.Fatalf("it never said %q", msg)
		}
	}
}

// addr is where it is reached.
func (p *process) addr() multiaddr.Multiaddr {
	p.t.Helper()
	a, err := transport.Parse(p.waitLog("others begin with")["bootstrap"].(string))
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// monitor is the URL of its monitor.
func (p *process) monitor() string {
	return "http://" + p.waitLog("listening", "what", "monitor")["addr"].(string)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for its end and returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-within(p.t).Done():
		p.t.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// peerNode is a node of the test's own process.
func peerNode(t testing.TB, n *mesh.Node) *mesh.Node {
	t.Helper()
	t.Cleanup(func() { n.Close() })
	if err := n.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

// echo has a node serve an echo, and waits until k relays forward to it.
func echo(t testing.TB, n *mesh.Node, k int) (service string) {
	t.Helper()
	l, err := n.Listen("echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.WaitReserved(within(t), k); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the node
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// greet sends a word and reads it back.
func greet(c net.Conn) error {
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}
