package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/text"
)

func file(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	path := a[1]
	if rest, ok := strings.CutPrefix(path, "~/"); ok { // here no shell has done it
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(home, rest)
	}
	return new(Result), s.SendFile(ctx, c, path)
}

func files(ctx context.Context, s *Session, _ []string) (*Result, error) {
	all, err := s.Files(ctx)
	r := &Result{Lines: []string{}}
	for i := range all {
		r.Lines = append(r.Lines, s.FileLine(ctx, &all[i]))
	}
	return r, err
}

// FileLine says what a transfer is and how far.
func (s *Session) FileLine(ctx context.Context, f *chat.File) string {
	way := "from"
	if f.Out {
		way = "to"
	}
	return fmt.Sprintf("file %d %s %s: %s, %s: %s", f.Number, way, s.Name(ctx, f.Peer), text.Name(f.Name), humanize.IBytes(uint64(f.Size)), FileState(f))
}

// FileState says how far a transfer is.
func FileState(f *chat.File) string {
	switch {
	case f.State == store.Running && f.Size > 0:
		return fmt.Sprintf("%d %%", 100*f.Done/f.Size)
	case f.State == store.Offered && !f.Out:
		return fmt.Sprintf("offered, /get %d takes it", f.Number)
	case f.State == store.Done && !f.Out:
		return "done: " + text.Name(f.Path)
	case f.State == store.Failed && !f.Out:
		return fmt.Sprintf("failed, /get %d tries again: %s", f.Number, text.Name(f.Why))
	case f.State == store.Failed:
		return "failed: " + text.Name(f.Why)
	}
	return f.State.String()
}

func onFile(f func(*chat.Engine, context.Context, int64) error, what string) func(context.Context, *Session, []string) (*Result, error) {
	return func(ctx context.Context, s *Session, a []string) (*Result, error) {
		n, err := strconv.ParseInt(a[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %.20q is no number of a file; /files lists them", ErrUsage, a[0])
		}
		if err := f(s.Engine, ctx, n); err != nil {
			return nil, err
		}
		return said("file %d %s", n, what)
	}
}
