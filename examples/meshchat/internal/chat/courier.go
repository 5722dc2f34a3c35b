package chat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

// How a courier tries again.
const (
	dialTimeout = 30 * time.Second
	firstPause  = 500 * time.Millisecond // doubled each time
	lastPause   = time.Minute
	maxLater    = 40 // times that a peer may put a message off: with the pauses, for half an hour
)

// A courier brings one peer what waits for him: as long as the node runs, and over as many conns as it takes. One batch is
// under way at a time, so that what was put off is not overtaken by what was written later.
type courier struct {
	e       *Engine
	peer    identity.ID
	work    chan struct{} // something waits
	back    chan struct{} // the peer is back: dial now
	stop    context.CancelFunc
	sent    atomic.Uint64 // the highest ID of the batch under way; 0: none is
	refused bool          // it was told that the invitation is not taken; the goroutine's own
	// later says how often messages of a chat were put off, and until when. It is the goroutine's own.
	later map[protocol.Chat]postponed
}

type postponed struct {
	times int
	until time.Time
}

func newCourier(e *Engine, peer identity.ID) *courier {
	return &courier{
		e: e, peer: peer, work: make(chan struct{}, 1), back: make(chan struct{}, 1), later: make(map[protocol.Chat]postponed),
	}
}

func (c *courier) wake(now bool) {
	signal(c.work)
	if now {
		signal(c.back)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *courier) run(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		began := time.Now()
		err := c.once(ctx)
		c.sent.Store(0)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		c.e.Log.Debug("not delivering", "peer", c.peer.Short(), "err", err, "again", pause)
		timer := time.NewTimer(pause/2 + rand.N(pause)/2)
		select {
		case <-ctx.Done():
		case <-timer.C:
			pause = min(2*pause, lastPause)
		case <-c.back:
			pause = firstPause
		case <-c.work: // somebody waits for this: it is worth a try
			signal(c.work)
			pause = min(pause, 4*firstPause)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-c.back:
			}
		}
		timer.Stop()
	}
}

// once dials and delivers until that fails.
func (c *courier) once(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.greet(ctx, conn); err != nil {
		return err
	}
	c.e.publish(Event{Kind: People})
	answers := make(chan *protocol.Answer)
	gone := make(chan error, 1)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the conn, or with once
		for {
			a := new(protocol.Answer)
			if err := protocol.Read(conn, protocol.MaxHello, a); err != nil {
				gone <- err
				return
			}
			select {
			case answers <- a:
			case <-ctx.Done():
				return
			}
		}
	}()
	// await returns an answer; or, without one, when there may be work.
	await := func(work <-chan struct{}, wait time.Duration) (*protocol.Answer, error) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-gone:
			return nil, err
		case a := <-answers:
			return a, nil
		case <-work:
		case <-timer.C:
		}
		return nil, nil
	}
	var told uint64 // the receipt
	for {
		items, read, wait, err := c.next(ctx)
		if err != nil {
			return err
		}
		if len(items) == 0 && read == told {
			if a, err := await(c.work, wait); err != nil {
				return err
			} else if a != nil {
				return fmt.Errorf("%w: an answer to nothing", protocol.ErrMalformed)
			}
			continue
		}
		if err := c.send(conn, items, read); err != nil {
			return err
		}
		a, err := await(nil, answerTimeout)
		switch {
		case err != nil:
			return err
		case a == nil:
			return errors.New("the peer does not answer")
		case len(a.Status) != len(items):
			return fmt.Errorf("%w: %d answers to %d messages", protocol.ErrMalformed, len(a.Status), len(items))
		}
		if err := c.settle(ctx, items, a.Status); err != nil {
			return err
		}
		told = read
		c.sent.Store(0)
	}
}

// dial gives up early when the peer dials us: another dial goes over the session that there is then.
func (c *courier) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	select {
	case <-c.back: // an old one
	default:
	}
	go func() { // ends with dial
		select {
		case <-c.back:
			signal(c.back)
			cancel()
		case <-done:
		}
	}()
	n := c.e.Node()
	if n == nil {
		return nil, net.ErrClosed
	}
	d := c.e.Dialer
	d.Node = n
	return d.Dial(ctx, c.peer.String()+":"+protocol.Service)
}

func (c *courier) greet(ctx context.Context, conn net.Conn) error {
	var contact *store.Contact
	err := c.e.Store.View(ctx, func(tx *store.Tx) (err error) {
		contact, err = tx.Contact(c.peer)
		return err
	})
	if err != nil {
		return err
	}
	hello := &protocol.Hello{Version: protocol.Version, Nick: c.e.Nick}
	if contact != nil {
		hello.Secret = contact.Secret
	}
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	if err := protocol.Write(conn, hello); err != nil {
		return err
	}
	w := new(protocol.Welcome)
	if err := protocol.Read(conn, protocol.MaxHello, w); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	if w.Version != protocol.Version {
		return fmt.Errorf("the peer speaks version %d of the chat protocol, and we %d", w.Version, protocol.Version)
	}
	if contact == nil || contact.Secret == nil {
		return nil
	}
	if !w.Known {
		if !c.refused {
			c.refused = true
			c.e.publish(Event{Kind: Noted, Text: contact.Name + " does not take the invitation: it was used, was cancelled or has ended; ask for another. What you write is a request there"})
		}
		return nil
	}
	return c.e.Store.Update(ctx, func(tx *store.Tx) error { // used up
		now, err := tx.Contact(c.peer)
		if err != nil || now == nil {
			return err
		}
		now.Secret = nil
		return tx.PutContact(now)
	})
}

// next returns what is to be sent, or how long to wait for it.
func (c *courier) next(ctx context.Context) (items []store.Item, read uint64, wait time.Duration, err error) {
	now := time.Now()
	wait = time.Hour
	err = c.e.Store.View(ctx, func(tx *store.Tx) error {
		mark, err := tx.Mark(c.peer, protocol.Chat{Peer: c.peer})
		if err != nil {
			return err
		}
		read = mark.Seen
		waiting, lost, err := tx.Queue(c.peer, 4*protocol.MaxBatch)
		if lost > 0 {
			err = errors.Join(err, c.e.lost(tx, c.peer))
		}
		size := 0
		for _, i := range waiting {
			if p := c.later[i.Message.In(c.peer)]; now.Before(p.until) {
				wait = min(wait, p.until.Sub(now))
				continue
			}
			if size += i.Message.Size(); len(items) == protocol.MaxBatch || size > protocol.MaxFrame/2 && len(items) > 0 {
				break
			}
			items = append(items, i)
		}
		return err
	})
	return items, read, wait, err
}

// send sends a batch.
func (c *courier) send(conn net.Conn, items []store.Item, read uint64) error {
	b := &protocol.Batch{Read: read}
	for _, i := range items {
		b.Messages = append(b.Messages, i.Message)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	if err := protocol.Write(conn, b); err != nil {
		return err
	}
	for _, i := range items {
		c.sent.Store(max(c.sent.Load(), i.Message.ID))
		c.e.publish(Event{Kind: Marked, Chat: i.Message.In(c.peer)})
	}
	return nil
}

// settle takes out of the queue what needs not be sent again.
func (c *courier) settle(ctx context.Context, items []store.Item, status []protocol.Status) error {
	var events []Event
	put := make(map[protocol.Chat]bool)
	err := c.e.Store.Update(ctx, func(tx *store.Tx) error {
		for n, i := range items {
			chat := i.Message.In(c.peer)
			failed := ""
			switch {
			case status[n] == protocol.Later && c.later[chat].times < maxLater:
				put[chat] = true
				continue
			case status[n] == protocol.Later:
				failed = "did not take it, though asked many times"
			case status[n] == protocol.Refused:
				failed = "refused it"
			}
			var errs error
			if failed != "" && i.Log != 0 {
				errs = tx.Fail(chat, i.Log, c.e.nameIn(tx, c.peer)+" "+failed)
			}
			mark, err := tx.Mark(c.peer, chat)
			if failed == "" {
				mark.Delivered = max(mark.Delivered, i.Message.ID)
				errs = errors.Join(errs, err, tx.PutMark(c.peer, chat, mark))
			}
			if err := errors.Join(errs, tx.Dequeue(c.peer, i.Number)); err != nil {
				return err
			}
			events = append(events, Event{Kind: Marked, Chat: chat})
		}
		return nil
	})
	for n, i := range items {
		chat := i.Message.In(c.peer)
		if p := c.later[chat]; put[chat] && status[n] == protocol.Later {
			put[chat] = false
			p.times++
			p.until = time.Now().Add(min(firstPause<<min(p.times, 10), lastPause))
			c.later[chat] = p
		} else if status[n] == protocol.Taken {
			delete(c.later, chat)
		}
	}
	c.e.publish(events...)
	return err
}
