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
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
	done atomic.Int64
	told atomic.Int64 // when, in Unix nanoseconds
	stop context.CancelFunc
}

// tellEvery bounds the events of progress.
const tellEvery = 250 * time.Millisecond

// A File is a transfer with what is known of it.
type File struct {
	store.Transfer
	Done int64 // bytes, while it runs
}

// Files returns all transfers, the oldest first.
func (e *Engine) Files(ctx context.Context) (out []File, err error) {
	var all []store.Transfer
	err = e.Store.View(ctx, func(tx *store.Tx) (err error) {
		all, err = tx.Transfers()
		return err
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range all {
		f := File{Transfer: x}
		if p := e.moving[x.Number]; p != nil {
			f.Done = p.done.Load()
		}
		if x.State == store.Done {
			f.Done = x.Size
		}
		out = append(out, f)
	}
	return out, err
}

// SendFile offers the file at path to everybody in the chat. It is read when they have accepted it, so it must stay.
func (e *Engine) SendFile(ctx context.Context, chat protocol.Chat, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	case info.Size() > protocol.MaxFileSize:
		return fmt.Errorf("%s has %d bytes, and %d at most can be sent", path, info.Size(), int64(protocol.MaxFileSize))
	}
	name := safeName(filepath.Base(path))
	_, err = e.say(ctx, chat, protocol.Message{File: &protocol.File{Name: name, Size: info.Size()}}, func(tx *store.Tx, m *store.Message) error {
		for _, id := range m.To {
			x := &store.Transfer{Peer: id, ID: m.ID, Chat: chat, Out: true, Name: name, Size: info.Size(), Path: path, State: store.Offered}
			if err := tx.PutTransfer(x); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// transfer changes the transfer with the number.
func (e *Engine) transfer(ctx context.Context, number int64, f func(*store.Tx, *after, *store.Transfer) error) error {
	a := newAfter()
	err := e.Store.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.Transfers()
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].Number == number {
				return f(tx, a, &all[i])
			}
		}
		return fmt.Errorf("there is no file %d", number)
	})
	if err == nil {
		a.run(ctx, e)
	}
	return err
}

// AcceptFile has a file that was offered be sent; it comes into the directory of files.
func (e *Engine) AcceptFile(ctx context.Context, number int64) error {
	return e.transfer(ctx, number, func(tx *store.Tx, a *after, x *store.Transfer) error {
		if x.Out || x.State == store.Done || x.State == store.Running {
			return fmt.Errorf("file %d is %v: there is nothing to accept", number, x.State)
		}
		return e.acceptIn(tx, a, x)
	})
}

// DropFile declines or ends a transfer.
func (e *Engine) DropFile(ctx context.Context, number int64) error {
	return e.transfer(ctx, number, func(tx *store.Tx, a *after, x *store.Transfer) error {
		if x.State == store.Done {
			return fmt.Errorf("file %d is done", number)
		}
		if err := e.reply(tx, a, x, false); err != nil {
			return err
		}
		return e.settleFile(tx, a, x, store.Declined, "")
	})
}

func (e *Engine) acceptIn(tx *store.Tx, a *after, x *store.Transfer) error {
	x.State, x.Why = store.Running, ""
	if err := tx.PutTransfer(x); err != nil {
		return err
	}
	moved := *x
	a.then = append(a.then, func(context.Context) { e.move(&moved) })
	a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: &moved})
	return e.reply(tx, a, x, true)
}

func (e *Engine) reply(tx *store.Tx, a *after, x *store.Transfer, accepted bool) error {
	id, err := tx.NextID(time.Now())
	if err != nil {
		return err
	}
	a.wake[x.Peer] = true
	return tx.Enqueue(x.Peer, &store.Item{Message: protocol.Message{ID: id, Reply: &protocol.Reply{ID: x.ID, Accepted: accepted, Mine: x.Out}}})
}

// takeReply is about a file that we have offered to peer, or he to us.
func (e *Engine) takeReply(tx *store.Tx, a *after, peer identity.ID, r *protocol.Reply) (protocol.Status, error) {
	all, err := tx.Transfers()
	if err != nil {
		return 0, err
	}
	for i := range all {
		x := &all[i]
		if x.Out == r.Mine || x.Peer != peer || x.ID != r.ID || x.State == store.Done {
			continue
		}
		if !r.Accepted {
			return protocol.Taken, e.settleFile(tx, a, x, store.Declined, "")
		}
		x.State, x.Why = store.Running, ""
		a.then = append(a.then, func(context.Context) { e.move(x) })
		a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: x})
		return protocol.Taken, tx.PutTransfer(x)
	}
	return protocol.Refused, nil
}

// settleFile ends a transfer.
func (e *Engine) settleFile(tx *store.Tx, a *after, x *store.Transfer, s store.TransferState, why string) error {
	x.State, x.Why = s, why
	ended := *x
	a.then = append(a.then, func(context.Context) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if p := e.moving[ended.Number]; p != nil {
			p.stop()
		}
	})
	a.events = append(a.events, Event{Kind: Filed, Chat: x.Chat, Transfer: &ended})
	return tx.PutTransfer(x)
}

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

// move starts the goroutine of a transfer. One too many waits for the next start of the node.
func (e *Engine) move(x *store.Transfer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spawn == nil || e.moving[x.Number] != nil || len(e.moving) >= maxTransfers {
		return
	}
	p, n := new(progress), e.node
	e.moving[x.Number] = p
	p.stop = e.spawn(func(ctx context.Context) {
		var err error
		if x.Out {
			err = e.sendFile(ctx, n, x, p)
		} else {
			err = e.receiveFile(ctx, n, x, p)
		}
		e.mu.Lock()
		delete(e.moving, x.Number)
		e.mu.Unlock()
		if ctx.Err() != nil { // it goes on with the next start, or was declined
			return
		}
		e.settled(ctx, x, err)
	})
}

// settled notes how a transfer ended, and starts one that waits.
func (e *Engine) settled(ctx context.Context, x *store.Transfer, failure error) {
	state, why := store.Done, ""
	if failure != nil {
		state, why = store.Failed, failure.Error()
	}
	err := e.transfer(ctx, x.Number, func(tx *store.Tx, a *after, now *store.Transfer) error {
		now.Path = x.Path
		return e.settleFile(tx, a, now, state, why)
	})
	if err == nil {
		err = e.resume(ctx)
	}
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

// sendFile sends until the peer has the file, or either side has had enough.
func (e *Engine) sendFile(ctx context.Context, n *mesh.Node, x *store.Transfer, p *progress) error {
	for pause := firstPause; ; {
		err := e.sendOnce(ctx, n, x, p)
		if err == nil || ctx.Err() != nil || errors.Is(err, blob.ErrChanged) || errors.Is(err, blob.ErrRefused) || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, ok := errors.AsType[*blob.SizeError](err); ok {
			return blob.ErrChanged
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
	coming := filepath.Join(e.Dir, ".coming-"+strings.TrimPrefix(service, protocol.FileService))
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

// place gives a file that has come a name in the directory that no other has.
func place(coming, dir, name string) (string, error) {
	ext := filepath.Ext(name)
	for n := 1; ; n++ {
		path := filepath.Join(dir, name)
		if n > 1 {
			path = filepath.Join(dir, fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext))
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // the name is ours now
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			continue
		}
		if err != nil {
			return "", err
		}
		return path, errors.Join(f.Close(), os.Rename(coming, path))
	}
}

// safeName is a file's name without what a directory or a terminal would make of it.
func safeName(name string) string {
	name = program.Printable(strings.ToValidUTF8(name, "·"))
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	for len(name) > protocol.MaxFileName-20 { // room for a number
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	if name = strings.Trim(name, ". "); name == "" {
		return "file"
	}
	return name
}
