package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// roleCommand is a role as a process of its own, which is killed if it hangs.
func roleCommand(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	return cmd
}

// TestRolesEndWithTheirParent shows that a role whose input ends is gone, whatever
// it is about: cmd.Run would not return otherwise.
func TestRolesEndWithTheirParent(t *testing.T) {
	for name := range roles {
		for _, input := range []string{"", "no JSON", "{"} {
			cmd := roleCommand(t, name)
			cmd.Stdin = strings.NewReader(input)
			if err := cmd.Run(); err != nil {
				t.Errorf("%s, given %q: %v", name, input, err)
			}
		}
	}
}

func TestOrdersThatCannotBe(t *testing.T) {
	_, notMe := testFile(t, 1)
	for _, tt := range []struct{ role, input, want string }{
		{"director", "", "not a role"},
		{"sender", `{"go_on":true}`, "no config"},
		{"receiver", `{"go_on":true}`, "no config"},
		{"receiver", `{"config":{"relays":["over there"]}}`, "a relay's address"},
		{"receiver", `{"config":{"peer":"nobody"}}`, "nobody"},
		{"sender", `{"config":{"file":"/nothing/here"}}`, "there is no file /nothing/here"},
		{"sender", `{"config":{"peer":"` + notMe + `","size":4194304}}`, "address"},
	} {
		cmd := roleCommand(t, tt.role)
		stdin, err := cmd.StdinPipe() // open for as long as the role runs
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(stdin, tt.input)
		out, err := cmd.Output()
		if err == nil || !strings.Contains(lastLine(string(out)), `"failed":`) || !strings.Contains(lastLine(string(out)), tt.want) {
			t.Errorf("%s, given %s: %v, %s", tt.role, tt.input, err, out)
		}
	}
}

func TestTail(t *testing.T) {
	var got tail
	for range 1000 {
		got.Write([]byte("0123456789"))
	}
	got.Write([]byte("\x1b[2Jthe\tend\n\n"))
	if s := got.String(); len(s) > tailSize || !strings.HasSuffix(s, "789 [2Jthe end") {
		t.Errorf("%d bytes, ends in %q", len(s), s[len(s)-20:])
	}
}

func TestWhy(t *testing.T) {
	p := &proc{name: "relay A"}
	if got := p.why(nil).Error(); got != "relay A ended too early" {
		t.Error(got)
	}
	if got := p.why(io.ErrNoProgress).Error(); !strings.HasPrefix(got, "relay A ended: ") {
		t.Error(got)
	}
	p.stderr.Write([]byte("panic: oh\n"))
	if got := p.why(nil).Error(); got != "relay A ended and said: panic: oh" {
		t.Error(got)
	}
	if got := (&proc{name: "sender"}).why(nil).Error(); got != "the sender ended too early" {
		t.Error(got)
	}
	if got := p.why(io.ErrNoProgress).Error(); !strings.HasSuffix(got, ") and said: panic: oh") {
		t.Error(got)
	}
}
