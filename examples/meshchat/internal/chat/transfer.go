package chat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/blob"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A progress is a transfer that runs.
type progress struct {
	peer identity.ID
	done atomic.Int64
	told atomic.Int64 // when, in Unix nanoseconds
	stop context.CancelFunc
}

// tellEvery bounds the events of progress.
const tellEvery = 250 * time.Millisecond

// resume goes on with what ran when the program ended.
func (e *Engine) resume(ctx context.Context) error {
	all, err := e.Files(ctx)
	for i := range all {
		if all[i].State == store.Running {
			e.move(&all[i].Transfer)
		}
	}
	return err
}

// move starts the goroutine of a transfer. One too many waits until another ends.
func (e *Engine) move(x *store.Transfer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	his := 0
	for _, p := range e.moving {
		if p.peer == x.Peer {
			his++
		}
	}
	if e.spawn == nil || e.moving[x.Number] != nil || len(e.moving) >= maxTransfers || his >= maxTransfersOf {
		return
	}
	p, n := &progress{peer: x.Peer}, e.node
	e.moving[x.Number] = p
	p.stop = e.spawn(func(ctx context.Context) {
		err := e.runs(ctx, x.Number)
		switch {
		case err != nil:
		case x.Out:
			err = e.sendFile(ctx, n, x, p)
		default:
			err = e.receiveFile(ctx, n, x, p)
		}
		e.mu.Lock()
		delete(e.moving, x.Number)
		e.mu.Unlock()
		if ctx.Err() == nil { // else it goes on with the next start, or was ended
			e.settled(ctx, x, err)
		}
		ctx = context.WithoutCancel(ctx)
		if err := errors.Join(e.sweep(ctx), e.resume(ctx)); err != nil {
			e.Log.Error("files", "err", err)
		}
	})
}

// runs fails unless the transfer is to run: it may have been ended before its goroutine was there to be stopped.
func (e *Engine) runs(ctx context.Context, number int64) error {
	all, err := e.Files(ctx)
	for i := range all {
		if all[i].Number == number && all[i].State == store.Running {
			return err
		}
	}
	return errors.Join(err, net.ErrClosed)
}

// settled notes how a transfer ended.
func (e *Engine) settled(ctx context.Context, x *store.Transfer, failure error) {
	state, why := store.Done, ""
	if failure != nil {
		state, why = store.Failed, failure.Error()
	}
	err := e.transfer(ctx, x.Number, func(tx *store.Tx, a *after, now *store.Transfer) error {
		if now.State != store.Running { // it was ended meanwhile
			return nil
		}
		if errors.Is(failure, errSource) { // else its receiver would wait
			if err := e.reply(tx, a, now, false); err != nil {
				return err
			}
		}
		now.Path = x.Path
		return e.settleFile(tx, a, now, state, why)
	})
	if err != nil && ctx.Err() == nil {
		e.Log.Error("a file", "number", x.Number, "err", err)
	}
}

// fileService is the service that takes one file: the sender's with that ID.
func fileService(sender, receiver identity.ID, id uint64) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(append(sender[:], receiver[:]...), id))
	return protocol.FileService + hex.EncodeToString(sum[:16])
}

func (e *Engine) progress(x *store.Transfer, p *progress) func(blob.Stage, int64, int64) {
	return func(s blob.Stage, done, total int64) {
		if s != blob.Transferring {
			return
		}
		p.done.Store(done)
		now := time.Now().UnixNano()
		if last := p.told.Load(); done == total || now-last > int64(tellEvery) {
			p.told.Store(now)
			e.publish(Event{Kind: Filed, Chat: x.Chat, Transfer: x})
		}
	}
}

// errSource says that sending again would not help.
var errSource = errors.New("the file is no longer as it was offered: offer it again")

// sendFile sends until the peer has the file, or either side has had enough.
func (e *Engine) sendFile(ctx context.Context, n *mesh.Node, x *store.Transfer, p *progress) error {
	for pause := firstPause; ; {
		err := e.sendOnce(ctx, n, x, p)
		if err == nil || ctx.Err() != nil || errors.Is(err, blob.ErrRefused) {
			return err
		}
		size, _ := errors.AsType[*blob.SizeError](err)
		path, _ := errors.AsType[*fs.PathError](err)
		if errors.Is(err, blob.ErrChanged) || size != nil || path != nil && path.Path == x.Path {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		e.Log.Debug("a file is not sent", "number", x.Number, "err", err)
		timer := time.NewTimer(pause/2 + rand.N(pause)/2)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, lastPause/4)
	}
}

func (e *Engine) sendOnce(ctx context.Context, n *mesh.Node, x *store.Transfer, p *progress) error {
	f, err := os.Open(x.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != x.Size {
		return blob.ErrChanged
	}
	d := e.Dialer
	d.Node, d.Class = n, splitter.Bulk
	_, err = d.SendBlob(ctx, x.Peer.String()+":"+fileService(e.ID, x.Peer, x.ID), f, x.Size, blob.Options{Progress: e.progress(x, p)})
	return err
}

// receiveFile listens for a file that was accepted until it is there. What a broken conn or run has left is found again.
func (e *Engine) receiveFile(ctx context.Context, n *mesh.Node, x *store.Transfer, p *progress) error {
	service := fileService(x.Peer, e.ID, x.ID)
	coming := e.coming(service)
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return err
	}
	e.mu.Lock()
	e.services[service] = x.Peer
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.services, service)
		e.mu.Unlock()
	}()
	l, err := n.Listen(service)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	conns := make(chan net.Conn)
	go func() { // ends with the listener
		defer close(conns)
		var last net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if last != nil {
				last.Close() // its sender has begun anew
			}
			last = conn
			select {
			case conns <- conn:
			case <-ctx.Done():
				conn.Close()
			}
		}
	}()
	for conn := range conns {
		info, err := mesh.ReceiveBlob(ctx, conn, coming, blob.Options{MaxSize: max(x.Size, 1), Progress: e.progress(x, p)})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			e.Log.Debug("a file does not come", "number", x.Number, "err", err)
			if errors.Is(err, fs.ErrPermission) || program.Status(err) == program.NoSpace {
				return err
			}
			continue
		case info.Size != x.Size:
			return errors.Join(fmt.Errorf("it has %d bytes, not %d as was said", info.Size, x.Size), os.Remove(coming))
		}
		x.Path, err = place(coming, e.Dir, x.Name)
		return err
	}
	return net.ErrClosed
}
