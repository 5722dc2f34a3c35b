package mesh

import (
	"context"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

const (
	recordLife     = 24 * time.Hour
	publishTimeout = 10 * time.Second
)

// publish tells the directory where the node is, in the background.
func (n *Node) publish() {
	if n.Directory == nil {
		return
	}
	n.goRun(func() { // ends within publishTimeout
		rec := n.record()
		if len(rec.Addrs) == 0 {
			return
		}
		err := rec.Sign(n.key)
		if err == nil {
			ctx, cancel := context.WithTimeout(n.ctx, publishTimeout)
			defer cancel()
			err = n.Directory.Publish(ctx, rec)
		}
		if err != nil {
			n.log.Warn("record not published", "err", err)
		}
	})
}

// keepPublished publishes the record anew long before it expires.
func (n *Node) keepPublished() {
	t := time.NewTicker(recordLife / 3)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.publish()
		case <-n.ctx.Done():
			return
		}
	}
}

// record says where the node is now, unsigned.
func (n *Node) record() *registry.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.lastSequence = max(now.UnixMilli(), n.lastSequence+1)
	rec := &registry.Record{ID: n.id, Sequence: n.lastSequence, Expires: now.Add(recordLife).UnixMilli(), Operator: n.Operator, Network: n.Network, Name: n.Name}
	rec.Capabilities = append(rec.Capabilities, n.Capabilities...)
	if n.relay != nil {
		rec.Capabilities = append(rec.Capabilities, registry.CapRelay)
	}
	for _, l := range n.arrivals {
		rec.Addrs = append(rec.Addrs, l.Multiaddr())
	}
	for _, b := range n.Bootstrap {
		if _, id, _, err := transport.SplitPeer(b); err == nil && n.reservations[id] != nil {
			if c, err := transport.Circuit(b, n.id); err == nil {
				rec.Addrs = append(rec.Addrs, c)
			}
		}
	}
	rec.Addrs = rec.Addrs[:min(len(rec.Addrs), registry.MaxAddrs)]
	return rec
}
