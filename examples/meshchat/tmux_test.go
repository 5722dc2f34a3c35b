package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	screens  = flag.String("screens", "", "directory into which TestScreen writes what it saw")
	fileSize = flag.Int("file", 16<<20, "bytes of the file in TestScreen, some MiB")
)

// A screen is a terminal of tmux, with its own server.
type screen struct {
	t      *testing.T
	socket string
	name   string
	env    []string
}

func (s *screen) tmux(args ...string) (string, error) {
	ctx := context.WithoutCancel(s.t.Context()) // the server is killed when that has ended
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-S", s.socket, "-f", os.DevNull}, args...)...)
	cmd.Env = append(s.env, "TERM=xterm-256color", "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH"), "SHELL=/bin/sh")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *screen) must(args ...string) string {
	s.t.Helper()
	out, err := s.tmux(args...)
	if err != nil {
		s.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return out
}

// startScreen runs meshchat on a screen of its own.
func startScreen(t *testing.T, name string, env []string) *screen {
	t.Helper()
	s := &screen{t: t, socket: filepath.Join(stateDir(t), "tmux"), name: name, env: env}
	t.Cleanup(func() { _, _ = s.tmux("kill-server") }) // it may have ended
	s.run()
	return s
}

func (s *screen) run() {
	s.t.Helper()
	s.must("new-session", "-d", "-x", "90", "-y", "18", executable(s.t))
	s.sees("Enter send")
}

// kill is kill -9.
func (s *screen) kill() {
	s.t.Helper()
	pid := strings.TrimSpace(s.must("list-panes", "-F", "#{pane_pid}"))
	if out, err := exec.CommandContext(s.t.Context(), "kill", "-9", pid).CombinedOutput(); err != nil {
		s.t.Fatal(string(out), err)
	}
	s.until("gone", func(string) bool {
		_, err := s.tmux("list-sessions")
		return err != nil
	})
}

func (s *screen) types(line string) {
	s.t.Helper()
	s.must("send-keys", "-l", line)
	s.must("send-keys", "Enter")
}

// escape closes an answer, and waits for it: what is typed right after Escape is something else.
func (s *screen) escape() {
	s.t.Helper()
	s.must("send-keys", "Escape")
	s.until("the answer go", func(now string) bool { return !strings.Contains(now, "│ ·····") })
}

func (s *screen) until(what string, ok func(screen string) bool) string {
	s.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, _ := s.tmux("capture-pane", "-p") // while there is none there is nothing to see
		if ok(now) {
			return now
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("%s does not see %s:\n%s", s.name, what, now)
		}
	}
}

// sees waits until all of the texts are on the screen.
func (s *screen) sees(texts ...string) string {
	s.t.Helper()
	return s.until(fmt.Sprintf("%q", texts), func(now string) bool {
		for _, text := range texts {
			if !strings.Contains(now, text) {
				return false
			}
		}
		return true
	})
}

// keep writes what is on the screen to where -screens says.
func (s *screen) keep(name string) {
	s.t.Helper()
	if *screens == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screens, name+".txt"), []byte(s.must("capture-pane", "-p")), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// TestScreen: two people, each at a screen, meet by invitation, talk, and send a file over three relays of which one dies;
// one goes and finds what was said when he is back.
func TestScreen(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux:", err)
	}
	nodes, bootstrap := relays(t, 3, *fileSize/24) // so that there is time for one to die
	annEnv, bobEnv := environment(t, "Ann", bootstrap), environment(t, "Bob", "")
	ann, bob := startScreen(t, "ann", annEnv), startScreen(t, "bob", bobEnv)
	ann.sees("Nobody is here yet", "3 relays")
	ann.keep("first")
	invitation, status := once(t, annEnv, "invite") // asks the one that runs
	if status != 0 {
		t.Fatal(status, invitation)
	}
	bob.types("/join " + invitation)
	bob.sees("ann is a contact", "ann (not verified, online")
	ann.sees("bob has joined by your invitation", "bob (not verified, online over")
	ann.types("hello bob, is this you?")
	bob.sees("ann: hello bob, is this you?")
	ann.sees("me: hello bob, is this you?  (read)")
	bob.types("/verify ann")
	words := bob.sees("/verify ann yes")
	ann.types("/verify bob")
	ann.sees(phrase(t, words)...)
	ann.keep("verify")
	ann.types("/verify bob yes")
	ann.sees("bob (verified, online over")
	bob.escape()
	bob.types("yes, it is")
	ann.sees("bob: yes, it is")

	file := filepath.Join(t.TempDir(), "holiday.mov")
	content := make([]byte, *fileSize)
	rand.Read(content)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	ann.escape()
	ann.types("/file bob " + file)
	bob.sees(fmt.Sprintf("(file holiday.mov, %d MiB)", *fileSize>>20), "file 1: offered, /get 1 takes it")
	bob.keep("offer")
	bob.types("/get 1")
	bob.sees("file 1: ███")
	if now := bob.sees("3 relays"); strings.Contains(now, "done") {
		t.Error("the file was too quick:\n", now)
	}
	bob.keep("progress")
	if err := nodes[0].Close(); err != nil {
		t.Error(err)
	}
	bob.sees("2 relays")
	bob.keep("died") // it goes on, over those that are left
	bob.sees("file 1: done:")
	ann.sees("file 1: done")
	got, err := os.ReadFile(filepath.Join(strings.TrimPrefix(bobEnv[2], "STATE_DIRECTORY="), "files", "holiday.mov"))
	if err != nil || string(got) != string(content) {
		t.Error("the file is another:", len(got), err)
	}

	bob.kill()
	ann.sees("(verified, away)") // what is written before is on its way until the session with him ends
	ann.types("are you gone?")
	ann.sees("me: are you gone?  (queued)")
	ann.types("then read this later")
	ann.sees("me: then read this later  (queued)")
	ann.keep("queued")
	bob.run()
	bob.sees("ann: are you gone?", "ann: then read this later", "2 relays")
	ann.sees("me: then read this later  (read)")
	bob.keep("back")

	bob.must("resize-window", "-x", "40", "-y", "10") // no room for the list
	bob.until("no list", func(now string) bool {
		return !strings.Contains(now, "│") && strings.Contains(now, "ann: then read")
	})
	bob.must("resize-window", "-x", "120", "-y", "30")
	bob.sees("│", "ann: hello bob")
	bob.must("send-keys", "C-c")
	bob.until("the end", func(string) bool {
		_, err := bob.tmux("list-sessions")
		return err != nil
	})
}

// TestInvitationIsCopied: an invitation that takes several rows is selected on one screen, and pasted on another.
func TestInvitationIsCopied(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux:", err)
	}
	_, bootstrap := relays(t, 1, 0)
	ann, bob := startScreen(t, "ann", environment(t, "Ann", bootstrap)), startScreen(t, "bob", environment(t, "Bob", ""))
	ann.sees("1 relay ")
	ann.types("/invite")
	rows := strings.Split(ann.sees("Copy all of these lines", "meshchat:"), "\n")
	ann.keep("invitation")
	first, last := -1, -1
	for i, row := range rows {
		if strings.HasPrefix(row, "meshchat:") {
			first = i
		} else if first >= 0 && strings.TrimSpace(row) == "" {
			last = i - 1
			break
		}
	}
	if last <= first {
		t.Fatalf("rows %d to %d", first, last)
	}
	copying := func(args ...string) { t.Helper(); ann.must(append([]string{"send-keys", "-X"}, args...)...) }
	ann.must("copy-mode")
	copying("top-line")
	copying("start-of-line")
	ann.must("send-keys", "-X", "-N", fmt.Sprint(first), "cursor-down")
	copying("begin-selection")
	ann.must("send-keys", "-X", "-N", fmt.Sprint(last-first), "cursor-down")
	copying("end-of-line")
	copying("copy-selection-and-cancel")
	selected := ann.must("save-buffer", "-")
	if !strings.HasPrefix(selected, "meshchat:") || strings.Contains(selected, "│") {
		t.Errorf("%q is selected", selected)
	}
	bob.must("send-keys", "-l", "/join ")
	bob.must("set-buffer", selected)
	bob.must("paste-buffer", "-p")
	bob.types(" annie")
	bob.sees("annie is a contact")
	ann.sees("bob (not verified, online over 1 path)") // and the list is there again
}

// phrase is the words that are on a screen.
func phrase(t *testing.T, screen string) (rows []string) {
	t.Helper()
	_, after, ok := strings.Cut(screen, "both must have the same:")
	if !ok {
		t.Fatal(screen)
	}
	for _, row := range strings.Split(after, "\n")[1:3] {
		_, words, _ := strings.Cut(row, "│")
		rows = append(rows, strings.TrimSpace(words))
	}
	return rows
}
