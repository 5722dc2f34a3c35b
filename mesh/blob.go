package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/splitmesh/splitmesh/blob"
	"github.com/splitmesh/splitmesh/splitter"
)

// How long SendBlob waits before it dials again.
const (
	blobRetry    = 100 * time.Millisecond // doubled each time that nothing was sent
	blobRetryMax = 10 * time.Second
)

// SendBlob sends size bytes of src to "peer:service", where [ReceiveBlob] takes them,
// as one blob whose parts each prove themselves; see package blob. A name is asked for
// once: all goes to the peer that had it then. It dials once the content has been hashed. When the conn breaks it dials again, until ctx ends,
// and sends only what the peer lacks. Info.Carried counts all that was sent.
//
// A program that was killed and starts again goes on at once when its node has the
// same Identity. Under another, as a fresh one is, the receiver knows of no
// connection between the two, and is busy with the first transfer until its
// [Node.Grace] is over: give ctx longer than that, or keep the key.
//
// The error of the first dial is returned, as are those with which the peer refuses;
// they wrap what [Dialer.Dial] and [blob.Source.Send] say.
func (d *Dialer) SendBlob(ctx context.Context, addr string, src io.ReaderAt, size int64, o blob.Options) (blob.Info, error) {
	to, err := d.resolve(ctx, addr)
	if err != nil {
		return blob.Info{}, err
	}
	s, err := blob.NewSource(ctx, src, size, o)
	if err != nil {
		return blob.Info{}, err
	}
	var carried int64
	for wait, try := blobRetry, 0; ; try++ {
		info, dialled, err := d.sendOnce(ctx, to.String(), s, o)
		carried += info.Carried
		info.Carried = carried
		again := dialled && (blob.Broken(err) || errors.Is(err, blob.ErrBusy)) || !dialled && try > 0 && passing(err)
		if err == nil || !again || ctx.Err() != nil {
			return info, err
		}
		if dialled && !errors.Is(err, blob.ErrBusy) {
			wait = blobRetry
		}
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return info, fmt.Errorf("%w, after: %w", context.Cause(ctx), err)
		}
		wait = min(2*wait, blobRetryMax)
	}
}

// sendOnce also tells whether it could dial.
func (d *Dialer) sendOnce(ctx context.Context, addr string, s *blob.Source, o blob.Options) (blob.Info, bool, error) {
	m := s.Manifest()
	conn, err := d.Dial(ctx, addr)
	if err != nil {
		return blob.Info{ID: m.ID(), Size: s.Size()}, false, err
	}
	defer conn.Close()
	info, err := s.Send(ctx, conn, o)
	return info, true, err
}

// passing reports whether a dial may succeed later that has succeeded before.
func passing(err error) bool {
	return !errors.Is(err, errNodeClosed) && !errors.Is(err, ErrRevoked) &&
		!errors.Is(err, ErrRefused) && !errors.Is(err, splitter.ErrPolicy)
}

// ReceiveBlob takes from an accepted conn the blob that [Dialer.SendBlob] sends, into
// a file of that name, and closes the conn. What a broken transfer leaves is found
// again by the next of the same blob to the same path; see [blob.ReceiveFile], also
// for how much it takes. Who is sending, conn.RemoteAddr says.
func ReceiveBlob(ctx context.Context, conn net.Conn, path string, o blob.Options) (blob.Info, error) {
	defer conn.Close()
	return blob.ReceiveFile(ctx, conn, path, o)
}
