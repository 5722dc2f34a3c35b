package invite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Service is where the inviter is told of the one who joins.
const Service = "vpn-join"

// maxSilent is how many may be connected and have not introduced themselves: strangers can be many.
const maxSilent = 64

// ErrRefused is the inviter's word: it does not say why.
var ErrRefused = errors.New("the inviter does not take the invitation: it has expired, was revoked or was used by another; ask for a new one")

type introduction struct {
	Secret Secret `json:"secret"`
}

type welcome struct {
	Name  string `json:"name,omitempty"` // that it is called
	Error bool   `json:"error,omitempty"`
}

// Introduce tells the inviter, at the other end of c, who joins, and returns the name by which it is known there.
func Introduce(ctx context.Context, c net.Conn, secret Secret) (string, error) {
	var w welcome
	if err := forward.Ask(ctx, c, introduction{secret}, &w); err != nil {
		return "", fmt.Errorf("introduction: %w", err)
	}
	if w.Error {
		return "", ErrRefused
	}
	if !registry.ValidName(w.Name) {
		return "", fmt.Errorf("introduction: the inviter answers with %.40q, which is no name", w.Name)
	}
	return w.Name, nil
}

// An Inviter knows who may join.
type Inviter struct {
	Store *Store
	Hosts string // the file
	Log   *slog.Logger
	// Joined is told of each who has. It may be nil.
	Joined func(secret Secret, peer identity.ID, name string)

	mu     sync.Mutex // guards silent
	silent []net.Conn // that have not introduced themselves, the oldest first
}

// Serve takes introductions through l until ctx is done.
func (i *Inviter) Serve(ctx context.Context, l net.Listener) error {
	return forward.Serve(ctx, l, forward.MaxConns, i.Log, func(_ context.Context, c net.Conn) {
		defer c.Close()
		i.begin(c)
		_ = c.SetDeadline(time.Now().Add(forward.Patience)) // it fails for what is closed, as Read will
		var in introduction
		err := forward.ReadMessage(c, &in)
		i.end(c)
		if err != nil {
			return
		}
		peer := forward.Caller(c)
		name, err := i.admit(&in, peer)
		switch {
		case errors.Is(err, errUnknown): // strangers can say so at will
			i.Log.Debug("nobody joins", "peer", peer.Short(), "err", err)
		case err != nil:
			i.Log.Warn("nobody joins", "peer", peer.Short(), "err", err)
		}
		if forward.WriteMessage(c, welcome{Name: name, Error: err != nil}) == nil && err == nil && i.Joined != nil {
			i.Joined(in.Secret, peer, name)
		}
	})
}

// begin has a conn be silent. Of too many the oldest is closed: who has an invitation says so at once.
func (i *Inviter) begin(c net.Conn) {
	i.mu.Lock()
	i.silent = append(i.silent, c)
	var oldest net.Conn
	if len(i.silent) > maxSilent {
		oldest, i.silent = i.silent[0], slices.Delete(i.silent, 0, 1)
	}
	i.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
}

func (i *Inviter) end(c net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.silent = slices.DeleteFunc(i.silent, func(o net.Conn) bool { return o == c })
}

// admit has the hosts file know the peer, if the secret is one of ours. The name is never one that the peer chooses: what
// is allowed to a name would be, to whoever takes it.
func (i *Inviter) admit(in *introduction, peer identity.ID) (string, error) {
	name, err := i.Store.Use(in.Secret, peer)
	if err != nil {
		return "", err
	}
	if name, err = RememberAs(i.Hosts, peer, cmp.Or(name, "peer-"+peer.Short()), nil); err != nil {
		return "", err
	}
	i.Log.Info("a peer has joined", "peer", peer.Short(), "name", name)
	return name, nil
}
