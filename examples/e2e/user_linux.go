package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// webRole has this program serve a directory, for somebody without privileges.
const webRole = "web"

func serveWeb(addr, dir string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return (&http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// A user is an ordinary one of a machine.
type user struct {
	*machine
	id   int
	home string
}

const userPage = "a page of somebody's own\n"

func newUser(m *machine, id int) (*user, error) {
	u := &user{m, id, filepath.Join(m.dir, "home")}
	page := filepath.Join(u.home, "page.txt")
	err := os.Mkdir(u.home, 0o700)
	if err == nil {
		err = os.WriteFile(page, []byte(userPage), 0o600)
	}
	return u, errors.Join(err, os.Chown(u.home, id, id), os.Chown(page, id, id))
}

// does is a command of the user's: with the home, and no privilege or hope of one.
func (u *user) does(args ...string) *exec.Cmd {
	id := fmt.Sprint(u.id)
	args = append([]string{
		"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
		"env", "-i", "HOME=" + u.home, "PATH=" + os.Getenv("PATH"),
	}, args...)
	return u.command(u.t.ctx, args...)
}

// starts is does for what goes on until the end.
func (u *user) starts(name, word string, args ...string) (text string, err error) {
	p, err := u.begin(name, u.does(args...))
	if err != nil || word == "" {
		return "", err
	}
	return p.says(u.t.ctx, word)
}

// playUser has ordinary users follow the steps of meshvpn's README on two machines that reach one relay only. They name no
// state directory and have no settings but the relay.
func playUser(t *trial) error {
	w, err := newWorld(t, 1)
	if err != nil {
		return err
	}
	ann, err := newUser(w.a.machine, 65533)
	if err != nil {
		return err
	}
	bob, err := newUser(w.b.machine, 65534)
	if err != nil {
		return err
	}
	if out, err := output(ann.does("grep", "CapEff", "/proc/self/status")); err != nil {
		return err
	} else if strings.Trim(strings.TrimPrefix(out, "CapEff:"), "\t0\n") != "" {
		return fmt.Errorf("the user has privileges: %s", out)
	}
	bootstrap := "--node.bootstrap=" + w.relays[0].boot
	if _, err := bob.starts("web", "", t.e2e, webRole, "127.0.0.1:8080", bob.home); err != nil {
		return err
	}
	bob.processes[len(bob.processes)-1].lax = true
	text, err := bob.starts("invite", "\n", t.meshvpn, "invite", "--for", "ann", "--node.name", "bob", bootstrap)
	if err != nil {
		return err
	}
	join := ann.does(t.meshvpn, "join", "--node.name", "ann")
	join.Stdin = strings.NewReader(text)
	if _, err := output(join); err != nil {
		return err
	}
	<-bob.processes[len(bob.processes)-1].ended // it has invited
	if _, err := bob.starts("serve", "tcp/80", t.meshvpn, "serve", "8080", "--as", "80", "--allow", "ann", bootstrap); err != nil {
		return err
	}
	if _, err := ann.starts("proxy", "SOCKS5 proxy: ", t.meshvpn, "proxy"); err != nil {
		return err
	}
	if _, err := ann.starts("forward", "leads to", t.meshvpn, "forward", "local", "9090", "bob:80"); err != nil {
		return err
	}
	pages := 0
	for _, by := range [][]string{
		{"--proxy", "socks5h://127.0.0.1:1080", "http://bob.mesh/page.txt"},
		{"--proxy", "http://127.0.0.1:8118", "http://bob.mesh/page.txt"},
		{"http://127.0.0.1:9090/page.txt"},
	} {
		t.say("curl %s", strings.Join(by, " "))
		got, err := output(ann.does(append([]string{"curl", "--silent", "--show-error", "--fail", "--max-time", "30"}, by...)...))
		if err != nil {
			t.say("%v", err)
		} else if got == userPage {
			pages++
		}
	}
	t.atLeast("USER_PAGES", float64(pages), 3)
	return nil
}
