package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"os"
	"slices"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/term"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/plain"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/tui"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

// storeName is the file in the state directory.
const storeName = "chat.db"

// open makes the engine of the settings and of what is in the state directory. Close its store when it no longer runs.
func open(ctx context.Context, a *program.App, s *settings, state *program.State) (*command.Session, error) {
	key, err := node.Key(&s.Node, state, a.Log)
	if err != nil {
		return nil, err
	}
	dir, err := s.filesDir(state)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, state.Path(storeName), key.Seed(), a.Log)
	if err != nil {
		return nil, err
	}
	e := chat.New(chat.Options{
		Store: st, ID: key.ID(), Nick: cmp.Or(s.Nick, s.Node.Name), Dir: dir, AutoAccept: int64(s.AcceptFiles), Log: a.Log,
		Dialer: mesh.Dialer{RelayedOnly: s.RelayedOnly, Paths: s.Paths},
		Open: func(ctx context.Context, addrs []string, authorize chat.Authorize) (chat.Node, error) {
			n, err := node.Open(ctx, s.nodeWith(addrs), state, a.Log, func(n *mesh.Node) { n.Authorize = authorize })
			if err != nil {
				return chat.Node{}, err
			}
			return chat.Node{Node: n.Node, Close: n.Close}, nil
		},
	})
	return &command.Session{
		Engine: e, Addrs: func() []multiaddr.Multiaddr { return whereabouts(s, e.Node()) }, Alone: func() string { return node.Unreachable(&s.Node, state) },
	}, nil
}

// nodeWith are the settings of a node that knows more addresses.
func (s *settings) nodeWith(addrs []string) *node.Settings {
	n := s.Node
	n.Bootstrap = slices.Concat(n.Bootstrap, addrs)
	return &n
}

// whereabouts are the addresses that an invitation has: our own, unless they mean nothing elsewhere, and our relays'.
func whereabouts(s *settings, n *mesh.Node) (out []multiaddr.Multiaddr) {
	var all []multiaddr.Multiaddr
	if n != nil {
		if !s.RelayedOnly {
			all = append(all, n.Addrs()...)
		}
		all = append(all, n.Bootstrap...)
	} else {
		for _, text := range s.Node.Bootstrap {
			if b, err := transport.Parse(text); err == nil {
				all = append(all, b)
			}
		}
	}
	for _, b := range all {
		if _, _, ok, err := transport.SplitPeer(b); err == nil && ok && !manet.IsIPUnspecified(b) && len(out) < contact.MaxAddrs {
			out = append(out, b)
		}
	}
	return out
}

// onTerminal says what to do where there is no screen.
func onTerminal(a *program.App) error {
	for _, f := range []any{a.In, a.Out} {
		if f, ok := f.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
			return &program.Error{Status: program.Usage, Err: errors.New("there is no terminal"), Hint: "Chat by lines, with run --plain."}
		}
	}
	return nil
}

// How a person sees the chat.
type face int

const (
	onScreen face = iota
	byLines
	unseen // by nobody: other commands ask
)

// run chats until ctx ends or the person has had enough.
func run(ctx context.Context, a *program.App, s *settings, how face) (err error) {
	state, err := a.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	if how == onScreen {
		if err := onTerminal(a); err != nil {
			return err
		}
		// The screen is not for the log.
		f, err := os.OpenFile(state.Path("log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		errs := a.Err
		a.Err = f
		err = a.Load()
		a.Err = errs
		if err != nil {
			return err
		}
	}
	session, err := open(ctx, a, s, state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Store.Close()) }()
	mux := http.NewServeMux()
	admin.Handle(mux, "POST /command", func(ctx context.Context, o order) (*reply, error) { return obey(ctx, session, o), nil })
	doctor.Answer(mux, examining(session, s, state.Dir))
	server, err := admin.Listen(state.Dir, mux)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx, or when there can be no node
		ended <- session.Run(ctx)
		cancel()
	}()
	switch how {
	case onScreen:
		err = tui.Run(ctx, session, a.In, a.Out)
	case byLines:
		err = plain.Run(ctx, session, a.In, a.Out)
	case unseen:
		<-ctx.Done()
	}
	cancel()
	return errors.Join(err, <-ended)
}
