package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// A crew is the processes of one game. Each has a goroutine that reads its
// reports, which ends with the process.
type crew struct {
	exe    string
	events chan event
	procs  []*proc
	alive  int
}

// A proc is one process.
type proc struct {
	name   string
	id     string // of its node
	cmd    *exec.Cmd
	in     io.WriteCloser
	orders *json.Encoder
	stderr tail
	killed bool // by us
}

// An event is a report of a process, or its end.
type event struct {
	from   *proc
	report report
	ended  bool
	err    error // why it ended, or why its report can't be read
}

// start starts a process.
func (c *crew) start(role, name string) (*proc, error) {
	p := &proc{name: name, cmd: exec.Command(c.exe)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("can't start %s: %w", p, err)
	}
	p.orders = json.NewEncoder(p.in)
	c.procs = append(c.procs, p)
	c.alive++
	go c.listen(p, out) // ends with the process; stop waits for it
	return p, nil
}

// listen passes on what p reports, and then its end.
func (c *crew) listen(p *proc, out io.Reader) {
	dec := json.NewDecoder(out)
	for {
		var r report
		err := dec.Decode(&r)
		if err != nil {
			if err != io.EOF && !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				c.events <- event{from: p, err: fmt.Errorf("%s reports what nobody can read: %w", p, err)}
			}
			break
		}
		c.events <- event{from: p, report: r}
	}
	_, _ = io.Copy(io.Discard, out)
	c.events <- event{from: p, ended: true, err: p.cmd.Wait()}
}

// String is how a sentence names p.
func (p *proc) String() string {
	if strings.HasPrefix(p.name, "relay") {
		return p.name
	}
	return "the " + p.name
}

// order tells p. A process that can't be told has ended, or is to: that comes as
// an event.
func (p *proc) order(o order) {
	if err := p.orders.Encode(o); err != nil {
		p.in.Close()
	}
}

// kill ends p as a power cut would.
func (p *proc) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill() // or it has ended
}

// why is the reason for p's end, as well as it is known.
func (p *proc) why(err error) error {
	said := p.stderr.String()
	switch {
	case said != "" && err != nil:
		return fmt.Errorf("%s ended (%w) and said: %s", p, err, said)
	case said != "":
		return fmt.Errorf("%s ended and said: %s", p, said)
	case err != nil:
		return fmt.Errorf("%s ended: %w", p, err)
	}
	return fmt.Errorf("%s ended too early", p)
}

// stop kills every process and returns when all have ended.
func (c *crew) stop() {
	for _, p := range c.procs {
		p.kill()
	}
	for c.alive > 0 {
		if e := <-c.events; e.ended {
			c.alive--
		}
	}
}

// A tail keeps the last of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return oneLine(string(t.buf))
}

// oneLine makes s fit a line: what ends a line, or would move a terminal's cursor,
// becomes a space.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
