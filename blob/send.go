package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Send hashes size bytes of src and sends them over conn to a peer that receives.
// See [Source.Send], which sends the same content again, when conn breaks, without
// hashing it again.
func Send(ctx context.Context, conn net.Conn, src io.ReaderAt, size int64, o Options) (Info, error) {
	s, err := NewSource(ctx, src, size, o)
	if err != nil {
		return Info{}, err
	}
	return s.Send(ctx, conn, o)
}

// Send offers the blob over conn, sends the parts that the receiver lacks, and
// returns when the receiver has the whole and has checked it. ctx bounds it all.
// After an error the conn is good only to be closed, which is the caller's to do;
// after success it is as it was.
//
// Errors wrap what the receiver says (*SizeError, ErrRefused, ErrReceiver, ErrBusy),
// ErrProtocol, ErrChanged, the error of reading the content, or the conn's: see
// [Broken].
func (s *Source) Send(ctx context.Context, conn net.Conn, o Options) (Info, error) {
	t := &sending{Source: s, conn: conn, o: o, wants: make(chan bitmap, maxRounds)}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	err := t.run()
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	info := Info{ID: s.manifest.ID(), Size: s.Size(), Carried: t.carried}
	if err != nil {
		return info, fmt.Errorf("blob: sending: %w", err)
	}
	return info, nil
}

// past is a deadline that has passed, to wake whoever waits.
var past = time.Unix(1, 0)

// lastWord is how long a sender whose conn broke waits for the receiver's reason.
const lastWord = 2 * time.Second

// Broken reports whether err, of Send or Receive, is the conn's, which another conn
// may mend; the transfer then goes on from what the receiver has. All other errors are
// what one of the ends has to say.
func Broken(err error) bool {
	_, ok := errors.AsType[connError](err)
	return ok
}

// A sending is one call of Send.
type sending struct {
	*Source
	conn    net.Conn
	o       Options
	carried int64
	part    []byte

	wants chan bitmap // closed by read when no more come; holds all there can be
	// What ended it, for who has seen wants closed: the receiver's last word, or
	// why there was none.
	word, lost error
}

func (t *sending) run() error {
	// The reader's owner is run, which waits for it below. It ends at the
	// receiver's last word, or at a deadline that run sets.
	go t.read()
	local, err := t.write()
	switch {
	case local != nil:
		_ = t.conn.SetDeadline(past)
	case err != nil: // the receiver may have said why
		_ = t.conn.SetReadDeadline(time.Now().Add(lastWord))
	}
	for range t.wants {
	}
	if t.lost != nil && errors.Is(err, os.ErrDeadlineExceeded) { // read stopped the writer
		err = t.lost
	}
	switch {
	case local != nil:
		return local
	case t.word != nil:
		return t.word
	case err != nil:
		return connError{err}
	case t.lost != nil:
		return connError{t.lost}
	}
	return nil
}

// read takes the receiver's replies. They may come at any time: a receiver whose
// disk is full says so in the middle of a part.
func (t *sending) read() {
	defer close(t.wants)
	for round := 0; ; round++ {
		r, err := readReply(t.conn, &t.manifest)
		switch {
		case errors.Is(err, ErrProtocol):
			t.word = err
		case err != nil:
			t.lost = err
		case r.kind == replyWant && round < maxRounds:
			t.wants <- r.want
			continue
		case r.kind == replyWant:
			t.word = fmt.Errorf("%w: it wants parts for the %dth time", ErrProtocol, round+1)
		case r.kind == replyDone:
			return
		default:
			t.word = r.err(&t.manifest)
		}
		_ = t.conn.SetWriteDeadline(past) // nobody wants what is still being written
		return
	}
}

// write sends the offer and what the receiver wants. It tells errors of our own
// from the conn's.
func (t *sending) write() (local, err error) {
	if _, err := t.conn.Write(t.manifest.append([]byte(magic))); err != nil {
		return nil, err
	}
	total := t.manifest.Size
	for want := range t.wants {
		done := total - want.bytes(&t.manifest)
		t.o.progress(Transferring, done, total)
		for i := range t.manifest.Chunks() {
			if !want.has(i) {
				continue
			}
			for shard := range t.manifest.K {
				if t.part, err = t.AppendPart(t.part[:0], i*t.manifest.N+shard); err != nil {
					return err, nil
				}
				if _, err := t.conn.Write(t.part); err != nil {
					return nil, err
				}
			}
			_, n := t.manifest.span(i)
			done += int64(n)
			t.carried += int64(n)
			t.o.progress(Transferring, done, total)
		}
	}
	return nil, nil
}
