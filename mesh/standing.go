package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	standingTimeout = 10 * time.Second
	// recheckEvery is how often those who are in are asked about again.
	recheckEvery = 5 * time.Minute
	// maxUncertain is how often in a row the authority may be out of reach before a
	// peer that is in is put out.
	maxUncertain = 3
	// rechecksAtOnce bounds the questions of one round that are under way.
	rechecksAtOnce = 16
)

var errStanding = errors.New("not a member of the network")

// checkStanding asks the authority about peer; an authority that can't answer
// refuses.
func (n *Node) checkStanding(ctx context.Context, peer identity.ID) error {
	if n.Authority == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	st, err := n.Authority.Standing(ctx, peer)
	if err != nil {
		return fmt.Errorf("the authority did not say whether %s may join: %w", peer.Short(), err)
	}
	if st != registry.Active {
		return fmt.Errorf("%w: the authority calls %s %v", errStanding, peer.Short(), st)
	}
	return nil
}

// keepStanding asks again about all who have sessions with this node, and puts out
// who may no longer be in.
func (n *Node) keepStanding() {
	uncertain := make(map[identity.ID]int)
	t := time.NewTicker(recheckEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.recheck(uncertain)
		case <-n.ctx.Done():
			return
		}
	}
}

// A verdict is what came of asking about a peer again.
type verdict struct {
	peer identity.ID
	err  error
}

// recheck asks about every peer once. uncertain counts those about whom nobody could
// tell, and how often in a row.
func (n *Node) recheck(uncertain map[identity.ID]int) {
	n.mu.Lock()
	peers := make(map[identity.ID]bool, len(n.peers)) // whether we dialled it
	for id, sessions := range n.peers {
		for _, s := range sessions {
			peers[id] = peers[id] || n.sessions[s].dialled
		}
	}
	n.mu.Unlock()
	delete(peers, n.id)
	for id := range uncertain {
		if _, ok := peers[id]; !ok {
			delete(uncertain, id)
		}
	}
	verdicts := make(chan verdict)
	room := make(chan struct{}, rechecksAtOnce)
	asking := n.goRun(func() { // ends with n.ctx, or when all were asked
		for id, dialled := range peers {
			room <- struct{}{}
			n.wg.Go(func() {
				verdicts <- verdict{id, n.mayStay(id, dialled)}
				<-room
			})
		}
	})
	if !asking {
		return
	}
	for range peers {
		v := <-verdicts
		switch {
		case v.err == nil:
			delete(uncertain, v.peer)
			continue
		case n.ctx.Err() != nil:
			continue
		case !errors.Is(v.err, errStanding) && !errors.Is(v.err, ErrRevoked):
			if uncertain[v.peer]++; uncertain[v.peer] < maxUncertain {
				n.log.Warn("the standing of a peer is not certain", "peer", v.peer.Short(), "err", v.err)
				continue
			}
		}
		delete(uncertain, v.peer)
		n.log.Warn("peer put out", "peer", v.peer.Short(), "err", v.err)
		n.putOut(v.peer)
	}
}

// mayStay asks the authority about a peer and, if this node dialled it, the directory
// whether its key was revoked meanwhile.
func (n *Node) mayStay(peer identity.ID, dialled bool) error {
	if err := n.checkStanding(n.ctx, peer); err != nil || !dialled {
		return err
	}
	ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
	defer cancel()
	if _, err := n.lookup(ctx, peer); errors.Is(err, ErrRevoked) {
		return err
	}
	return nil
}

// putOut ends all sessions with a peer.
func (n *Node) putOut(peer identity.ID) {
	n.mu.Lock()
	sessions := slices.Clone(n.peers[peer])
	n.mu.Unlock()
	for _, s := range sessions {
		n.goRun(func() { _ = s.CloseWith(session.CodeRefused, "") }) // ends within a second, never fails
	}
}
