package invite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Service is where the inviter is told of the one who joins.
const Service = "vpn-join"

const maxJoins = 16 // at once

// ErrRefused is the inviter's word: it does not say why.
var ErrRefused = errors.New("the inviter does not take the invitation: it has expired, or was used by another; ask for a new one")

type introduction struct {
	Secret Secret `json:"secret"`
	Name   string `json:"name"` // that the one who joins would like to be called
}

type welcome struct {
	Name  string `json:"name,omitempty"` // that it is called
	Error bool   `json:"error,omitempty"`
}

// Introduce tells the inviter, at the other end of c, who joins, and returns the name by which it is known there.
func Introduce(ctx context.Context, c net.Conn, secret Secret, name string) (string, error) {
	var w welcome
	if err := forward.Ask(ctx, c, introduction{secret, name}, &w); err != nil {
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
}

// Serve takes introductions through l until ctx is done.
func (i *Inviter) Serve(ctx context.Context, l net.Listener) error {
	return forward.Serve(ctx, l, maxJoins, func(_ context.Context, c net.Conn) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(forward.Patience)) // it fails for what is closed, as Read will
		var in introduction
		if forward.ReadMessage(c, &in) != nil {
			return
		}
		peer := forward.Caller(c)
		name, err := i.admit(&in, peer)
		if err != nil {
			i.Log.Warn("nobody joins", "peer", peer.Short(), "err", err)
		}
		if forward.WriteMessage(c, welcome{Name: name, Error: err != nil}) == nil && err == nil && i.Joined != nil {
			i.Joined(in.Secret, peer, name)
		}
	})
}

// admit has the hosts file know the peer, if the secret is one of ours.
func (i *Inviter) admit(in *introduction, peer identity.ID) (string, error) {
	name, err := i.Store.Use(in.Secret, peer)
	if err != nil {
		return "", err
	}
	if name == "" {
		name = in.Name
	}
	if !registry.ValidName(name) {
		name = "peer-" + peer.Short()
	}
	if name, err = RememberAs(i.Hosts, peer, name, nil); err != nil {
		return "", err
	}
	i.Log.Info("a peer has joined", "peer", peer.Short(), "name", name)
	return name, nil
}
