// Package admin lets a person ask a program that runs, by a socket that only its owner can open. It is HTTP with JSON
// over a Unix socket.
package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// Socket is the file's name in the state directory.
const Socket = "admin.sock"

// maxBody bounds what either end takes.
const maxBody = 16 << 20

// A Server answers until it is closed.
type Server struct {
	http   *http.Server
	ended  chan struct{}
	socket string
}

// Listen answers at the socket in the state directory. The caller has the state directory to itself, so what is left of
// an earlier run is removed.
func Listen(dir string, h http.Handler) (*Server, error) {
	path := filepath.Join(dir, Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", path)
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("admin socket: the path %s is too long for a socket: choose another --state", path)
	}
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // the directory is 0700 already
		l.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	s := &Server{
		http:  &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10},
		ended: make(chan struct{}), socket: path,
	}
	go func() { // ends with Close
		defer close(s.ended)
		_ = s.http.Serve(l) // says only that it was closed
	}()
	return s, nil
}

// Close takes no more questions, and ends those under way that have no answer soon.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.ended
	return err
}

// parting is for answers that are on their way, such as that to who asked the program to end.
const parting = time.Second

// Handle answers requests of a method and path ("GET /status") with what f returns, as JSON. in is decoded from the body
// of requests that have one.
func Handle[In, Out any](mux *http.ServeMux, pattern string, f func(ctx context.Context, in In) (Out, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if r.Method != http.MethodGet {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
				answer(w, http.StatusBadRequest, failure{err.Error()})
				return
			}
		}
		out, err := f(r.Context(), in)
		if err != nil {
			answer(w, http.StatusUnprocessableEntity, failure{err.Error()})
			return
		}
		answer(w, http.StatusOK, out)
	})
}

// HandleStream answers requests of a method and path with lines of JSON, for as long as f runs; its context ends with the
// one who asks. f gets the request's body and tells what becomes a line; an error is the last.
func HandleStream(mux *http.ServeMux, pattern string, f func(ctx context.Context, r *http.Request, body []byte, tell func(any) error) error) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			answer(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		w.Header().Set("Content-Type", "application/jsonl")
		tell := func(v any) error {
			if err := json.NewEncoder(w).Encode(v); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		}
		if err := f(r.Context(), r, body, tell); err != nil {
			_ = tell(failure{err.Error()}) // who has gone needs none
		}
	})
}

// Fail answers a request that no pattern takes.
func Fail(w http.ResponseWriter, status int, err error) { answer(w, status, failure{err.Error()}) }

// Nothing is the In or Out of who has none.
type Nothing struct{}

type failure struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer has no JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // who has gone needs no answer
}

// A Client asks the program that uses a state directory.
type Client struct {
	program string
	http    *http.Client
}

// NewClient asks the program that runs with the state directory.
func NewClient(app *program.App) *Client {
	path := filepath.Join(app.Dir(), Socket)
	return &Client{program: app.Program.Name, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}}
}

// Ask makes a request with a JSON body of in, unless that is nil, and decodes the answer into out.
func (c *Client) Ask(ctx context.Context, method, path string, query url.Values, in, out any) error {
	body, err := c.ask(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil {
		return c.interrupted(ctx, err)
	}
	return json.Unmarshal(b, out)
}

// Follow is Ask where the answer is lines of JSON, until the last, or each returns an error.
func (c *Client) Follow(ctx context.Context, method, path string, in any, each func(line []byte) error) error {
	body, err := c.ask(ctx, method, path, nil, in)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// interrupted is what an error means to who was told to end meanwhile: it says nothing of the program that was asked.
func (c *Client) interrupted(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("interrupted: %s has not answered yet", c.program)
	}
	return err
}

// ask makes a request and returns the body of the answer, if that is a good one.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	target := url.URL{Scheme: "http", Host: c.program, Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &program.Error{Status: program.NotRunning, Err: fmt.Errorf("%s does not run, or with another state directory", c.program), Hint: "Start it, or say where it keeps its state with --state."}
	case errors.Is(err, fs.ErrPermission):
		return nil, &program.Error{Status: program.Forbidden, Err: fmt.Errorf("%s runs as another user: %w", c.program, err), Hint: "Ask as that user, or with sudo."}
	case err != nil:
		return nil, c.interrupted(ctx, err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, err
	}
	var f failure
	if json.Unmarshal(b, &f) != nil || f.Error == "" {
		f.Error = res.Status
	}
	return nil, errors.New(f.Error)
}
