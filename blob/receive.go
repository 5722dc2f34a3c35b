package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
)

// Receive takes the blob that a peer sends over conn and writes its content to w.
// A padded blob's padding is written too: cut w to Info.Size. What a broken
// transfer left in w does not help the next; [ReceiveFile] and [Assembler.Receive]
// resume. ctx bounds the whole; after an error conn is good only to be closed,
// which is the caller's to do.
//
// Errors wrap *SizeError, ErrOtherBlob, ErrManifest, ErrPart, ErrProtocol, w's, or
// the conn's; the sender is told which kind it was.
func Receive(ctx context.Context, conn net.Conn, w io.WriterAt, o Options) (Info, error) {
	return receive(ctx, conn, o, func(m Manifest) (*sink, error) {
		a, err := NewAssembler(m, w)
		return &sink{Assembler: a, finish: a.whole}, err
	})
}

// Receive takes over conn the parts that a still lacks: it is [Receive] for what
// has been begun, by an earlier conn or by Add. It takes no other blob. Parts that wait for
// others of their chunk are given up, since the chunk comes whole.
func (a *Assembler) Receive(ctx context.Context, conn net.Conn, o Options) (Info, error) {
	o.Want, o.MaxSize = a.manifest.ID(), max(1, a.manifest.Size)
	a.waiting, a.waitingBytes = make(map[int][][]byte), 0 // the conn brings whole chunks
	return receive(ctx, conn, o, func(Manifest) (*sink, error) {
		return &sink{Assembler: a, finish: a.whole}, nil
	})
}

func (a *Assembler) whole() error {
	_, err := a.Size()
	return err
}

// ReceiveFile is Receive into a file of that name, with mode 0600. Until the whole
// has been received and checked, its content is in path + ".part", and which parts
// are in there in path + ".have"; a later ReceiveFile of the same blob goes on from
// there, after hashing what it finds. A file that is there already is replaced, or
// kept when it is the very blob.
func ReceiveFile(ctx context.Context, conn net.Conn, path string, o Options) (Info, error) {
	var f *File
	info, err := receive(ctx, conn, o, func(m Manifest) (s *sink, err error) {
		if f, err = OpenFile(ctx, path, m, o); err != nil {
			return nil, err
		}
		return &sink{Assembler: f.a, finish: func() error { return f.Commit(ctx) }}, nil
	})
	if f != nil {
		f.Close()
	}
	return info, err
}

// A sink is where a transfer's parts go. finish is called when none is missing; it
// may find that some are, all the same.
type sink struct {
	*Assembler
	finish func() error
}

func receive(ctx context.Context, conn net.Conn, o Options, open func(Manifest) (*sink, error)) (info Info, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer func() {
		if !stop() && ctx.Err() != nil && err != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("blob: receiving: %w", err)
		}
	}()

	m, err := readOffer(conn)
	if _, ok := err.(connError); ok {
		return info, err
	}
	var s *sink
	if err == nil {
		info.ID = m.ID()
		err = o.accepts(&m)
	}
	if err == nil {
		s, err = open(m)
	}
	if err == nil {
		err = s.fill(conn, o, &info)
	}
	switch _, broke := err.(connError); {
	case broke: // nobody to tell
	case err != nil:
		_, _ = conn.Write(refusal(err).append(nil)) // err says more than why it could not be told
	default:
		if _, err = conn.Write([]byte{replyDone}); err != nil {
			err = connError{err} // the sender will ask again
		}
	}
	return info, err
}

// A connError is the conn's, so that there is nobody left to tell. See Broken.
type connError struct{ error }

func (e connError) Unwrap() error { return e.error }

func readOffer(conn net.Conn) (m Manifest, err error) {
	var b [len(magic) + manifestSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return m, connError{broken(err)}
	}
	if string(b[:len(magic)]) != magic {
		return m, fmt.Errorf("%w: it does not begin as a blob does", ErrProtocol)
	}
	return m, m.UnmarshalBinary(b[len(magic):])
}

// fill asks for what is missing until nothing is.
func (s *sink) fill(conn net.Conn, o Options, info *Info) error {
	var part []byte
	for round := 0; ; round++ {
		if s.missing == 0 {
			err := s.finish()
			if err == nil {
				info.Size, err = s.Size()
				return err
			}
			if !errors.Is(err, ErrIncomplete) || round >= maxRounds {
				return err
			}
		}
		if err := s.round(conn, o, info, &part); err != nil {
			return err
		}
	}
}

// round asks once for all that is missing, and takes it. The sender answers in the
// order of the chunks, so each part's head is known before it comes.
func (s *sink) round(conn net.Conn, o Options, info *Info, part *[]byte) error {
	m := &s.manifest
	want := s.wanted()
	if _, err := conn.Write(reply{kind: replyWant, want: want}.append(nil)); err != nil {
		return connError{err}
	}
	o.progress(Transferring, s.done, m.Size)
	for i := range m.Chunks() {
		if !want.has(i) {
			continue
		}
		for shard := range m.K {
			if err := readPart(conn, m, i*m.N+shard, part); err != nil {
				return err
			}
			if err := s.Add(*part); err != nil {
				return err
			}
		}
		_, n := m.span(i)
		info.Carried += int64(n)
		o.progress(Transferring, s.done, m.Size)
	}
	return nil
}

// readPart reads part i, which must be the next, into *part.
func readPart(conn net.Conn, m *Manifest, i int, part *[]byte) error {
	b := slices.Grow((*part)[:0], m.partSize(i))[:m.partSize(i)]
	*part = b
	if _, err := io.ReadFull(conn, b[:partHead]); err != nil {
		return connError{broken(err)}
	}
	if !bytes.Equal(b[:partHead], appendPartHead(nil, m, i)) {
		return fmt.Errorf("%w: part %d does not begin as it must", ErrProtocol, i)
	}
	if _, err := io.ReadFull(conn, b[partHead:]); err != nil {
		return connError{broken(err)}
	}
	return nil
}
