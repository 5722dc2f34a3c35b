package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

type question struct {
	Name string `json:"name"`
}

// running gives f a client of what runs with the state directory.
func running(t *testing.T, dir string, f func(context.Context, *admin.Client)) {
	t.Helper()
	type settings struct {
		Log program.Log `name:"log"`
	}
	s := &settings{Log: program.DefaultLog()}
	p := &program.Program{Name: "meshtest", Settings: s, Log: &s.Log, Commands: func(a *program.App) []*cobra.Command {
		return []*cobra.Command{{Use: "ask", RunE: func(c *cobra.Command, _ []string) error {
			f(c.Context(), admin.NewClient(a))
			return nil
		}}}
	}}
	var b bytes.Buffer
	if status := p.Run(t.Context(), []string{"ask", "--state", dir}, &b, &b, &b); status != program.OK {
		t.Fatal(status, b.String())
	}
}

// asked asks what runs with the state directory.
func asked(t *testing.T, dir, method, path string, in any) (out question, err error) {
	t.Helper()
	running(t, dir, func(ctx context.Context, c *admin.Client) { err = c.Ask(ctx, method, path, nil, in, &out) })
	return out, err
}

func TestAsking(t *testing.T) {
	dir := t.TempDir()
	if _, err := asked(t, dir, http.MethodGet, "/x", nil); program.Status(err) != program.NotRunning {
		t.Error("nobody runs:", err)
	}
	mux := http.NewServeMux()
	admin.Handle(mux, "POST /greet", func(_ context.Context, q question) (question, error) {
		if q.Name == "" {
			return q, errors.New("nobody to greet")
		}
		return question{"hello " + q.Name}, nil
	})
	for range 2 { // the second finds what the first left
		s, err := admin.Listen(dir, mux)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, admin.Socket)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info, err)
		}
		if out, err := asked(t, dir, http.MethodPost, "/greet", question{"ann"}); err != nil || out.Name != "hello ann" {
			t.Error(out, err)
		}
		if _, err := asked(t, dir, http.MethodPost, "/greet", question{}); err == nil || err.Error() != "nobody to greet" {
			t.Error(err)
		}
		if _, err := asked(t, dir, http.MethodPost, "/greet", map[string]int{"age": 3}); err == nil || !strings.Contains(err.Error(), "unknown field") {
			t.Error(err)
		}
		if _, err := asked(t, dir, http.MethodGet, "/nothing", nil); err == nil {
			t.Error("nothing answers")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, admin.Socket), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := asked(t, dir, http.MethodGet, "/x", nil); program.Status(err) != program.NotRunning {
		t.Error("a leftover answers:", err)
	}
	if _, err := admin.Listen(filepath.Join(dir, "none"), mux); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := admin.Listen(filepath.Join(dir, strings.Repeat("x", 120)), mux); err == nil {
		t.Error("a long path is taken")
	}
}

// TestFollow: lines come as they are told, an error is the last, and who is not asked any more ends.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	mux, gone := http.NewServeMux(), make(chan struct{})
	admin.HandleStream(mux, "POST /count", func(ctx context.Context, _ *http.Request, body []byte, tell func(any) error) error {
		for i := range 3 {
			if err := tell(question{fmt.Sprint(string(body), i)}); err != nil {
				return err
			}
		}
		if string(body) == "1" {
			<-ctx.Done()
			close(gone)
		}
		return errors.New("that is all")
	})
	s, err := admin.Listen(dir, mux)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	enough := errors.New("enough")
	follow := func(in any, stop bool) (err error) {
		got = nil
		running(t, dir, func(ctx context.Context, c *admin.Client) {
			err = c.Follow(ctx, http.MethodPost, "/count", in, func(line []byte) error {
				if got = append(got, string(line)); stop && len(got) == 3 {
					return enough
				}
				return nil
			})
		})
		return err
	}
	if err := follow(0, false); err != nil || strings.Join(got, " ") != `{"name":"00"} {"name":"01"} {"name":"02"} {"error":"that is all"}` {
		t.Error(got, err)
	}
	if err := follow(1, true); !errors.Is(err, enough) {
		t.Error(got, err)
	}
	<-gone
}

// TestInterrupted: who is told to end while the program has not answered says just that.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	mux := http.NewServeMux()
	came := make(chan struct{}, 2)
	mux.HandleFunc("POST /slow", func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /half", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"name":`)
		_ = http.NewResponseController(w).Flush() // who asks sees it
		came <- struct{}{}
		<-r.Context().Done()
	})
	s, err := admin.Listen(dir, mux)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, path := range []string{"/slow", "/half"} {
		running(t, dir, func(ctx context.Context, c *admin.Client) {
			ctx, cancel := context.WithCancel(ctx)
			go func() { // ends with the request
				<-came
				cancel()
			}()
			err := c.Ask(ctx, http.MethodPost, path, nil, question{"ann"}, new(question))
			if err == nil || err.Error() != "interrupted: meshtest has not answered yet" {
				t.Error(path, err)
			}
		})
	}
}
