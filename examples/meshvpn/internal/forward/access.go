package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/file"
)

// An Access says which peers may use something. Its zero value lets nobody.
type Access struct {
	All   bool
	Peers map[identity.ID]bool
}

// NewAccess is for the peers of those petnames or IDs. A petname counts as it is now: who edits the hosts file later
// lets nobody in by it.
func NewAccess(hosts *file.Hosts, peers []string, all bool) (*Access, error) {
	if !all && len(peers) == 0 {
		return nil, errors.New("nobody could use it: say who may with --allow PEER, or --allow-all")
	}
	a := &Access{All: all, Peers: make(map[identity.ID]bool)}
	for _, p := range peers {
		id, err := Peer(hosts, p)
		if err != nil {
			return nil, err
		}
		a.Peers[id] = true
	}
	return a, nil
}

// Peer is the peer of an ID or of a petname in the hosts file, with or without .mesh. Names that a directory gives are
// of no use here: they are the word of others.
func Peer(hosts *file.Hosts, text string) (identity.ID, error) {
	name := strings.TrimSuffix(text, ".mesh")
	if id, err := identity.ParseID(name); err == nil {
		return id, nil
	}
	now := &file.Hosts{Path: hosts.Path} // as it is, not as it was a second ago: the peer may have just joined
	if id, ok := now.Petname(name); ok {
		return id, nil
	}
	if !registry.ValidName(name) {
		return identity.ID{}, NoPeer(name)
	}
	return identity.ID{}, fmt.Errorf("%.80q is neither an ID nor a petname in %s: write a line \"ID NAME\" there, or invite the peer", text, hosts.Path)
}

func (a *Access) allows(id identity.ID) bool { return a.All || a.Peers[id] }

// A Gate knows who may use the services of a node.
type Gate struct {
	mu    sync.Mutex // guards rules
	rules map[string]*Access
}

var errDenied = errors.New("it is not among those who are allowed")

// Authorize is for mesh.Node. What was not opened by Listen is none of the gate's.
func (g *Gate) Authorize(_ context.Context, peer identity.ID, service string) error {
	g.mu.Lock()
	a := g.rules[service]
	g.mu.Unlock()
	if a != nil && !a.allows(peer) {
		return errDenied
	}
	return nil
}

// Listen listens on a service for those whom a allows. The node must have g.Authorize.
func (g *Gate) Listen(n *mesh.Node, service string, a *Access) (net.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rules[service] != nil {
		return nil, fmt.Errorf("listen %s: %w", service, mesh.ErrServiceTaken)
	}
	if g.rules == nil {
		g.rules = make(map[string]*Access)
	}
	g.rules[service] = a // before anybody can come
	l, err := n.Listen(service)
	if err != nil {
		delete(g.rules, service)
		return nil, err
	}
	return &gated{Listener: l, gone: func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.rules[service] == a {
			delete(g.rules, service)
		}
	}}, nil
}

type gated struct {
	net.Listener
	gone func()
}

func (l *gated) Close() error {
	err := l.Listener.Close()
	l.gone() // after it: in between nobody is let in
	return err
}
