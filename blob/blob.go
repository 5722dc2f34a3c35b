// Package blob moves a file, or anything of a known size, in parts that prove
// themselves, so that they may come from anywhere, in any order.
//
//	info, err := blob.Send(ctx, conn, file, size, blob.Options{})
//
// and at the peer, where what a broken transfer left is kept for the next,
//
//	info, err := blob.ReceiveFile(ctx, conn, "video.mp4", blob.Options{})
//
// A [Source] reads its content once and makes a [Manifest], which commits to the
// content and to how it is cut. Each part carries the manifest and the proof that
// its payload belongs at its place; an [Assembler] checks both before it writes a
// byte. Parts may thus wait at mailboxes, and a transfer that breaks goes on from
// what has arrived, over another conn or from another sender.
//
// The package promises that nothing is written which the manifest does not commit
// to, that no partial file gets its final name, and that memory stays bounded
// whatever a peer sends. It does not encrypt: who holds a part reads its payload,
// unless the conn (as those of mesh) or the caller sees to that.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Limits of what a manifest may say.
const (
	MinChunk  = 16 << 10 // bytes
	MaxChunk  = 1 << 20  // bytes
	MaxChunks = 1 << 20  // so that a blob is at most 1 TiB
)

// DefaultMaxSize is the largest blob, in bytes, that a receiver takes when
// Options.MaxSize is 0.
const DefaultMaxSize = 4 << 30

var (
	// ErrManifest reports bytes that are not a manifest which this version writes.
	ErrManifest = errors.New("not a valid blob manifest")
	// ErrPart reports a part that its manifest does not commit to.
	ErrPart = errors.New("the part does not belong to the blob: damaged or forged")
	// ErrOtherBlob reports a part of another blob, or a blob other than Options.Want.
	ErrOtherBlob = errors.New("it belongs to another blob")
	// ErrChanged reports a source whose content changed after it was hashed.
	ErrChanged = errors.New("the content changed while it was being sent: send it again as a new blob")
	// ErrIncomplete reports a blob of which parts are still missing.
	ErrIncomplete = errors.New("parts are missing")
	// ErrProtocol reports a peer that does not speak the protocol of blobs.
	ErrProtocol = errors.New("the peer does not follow the blob protocol")
	// ErrWaiting reports parts of too many chunks that wait for others of theirs.
	ErrWaiting = errors.New("too many chunks are begun: add the other parts of those first, then this one again")
	// ErrBusy reports a file to which another transfer of the receiver's process
	// writes: perhaps an earlier one, whose conn has broken without its knowing. Over
	// a mesh that one ends after Node.Grace, or as soon as a sender with the same
	// Identity is back.
	ErrBusy = errors.New("another transfer writes to the same file: try again when it has ended")
	// ErrRefused reports a receiver that doesn't want the blob.
	ErrRefused = errors.New("the receiver refused the blob")
	// ErrReceiver reports a receiver that could not store the blob, for want of
	// space for example. What it has is kept; send again later.
	ErrReceiver = errors.New("the receiver could not store the blob; what it has is kept, send again later")
)

// A SizeError reports a blob that is larger than its receiver takes.
type SizeError struct{ Size, Max int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the blob's %d bytes are more than the %d that the receiver takes; raise its MaxSize, or send less", e.Size, e.Max)
}

// An ID names a blob by its content and by how it is cut: the hash of its manifest.
type ID [32]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Info says what was sent or received.
type Info struct {
	ID ID
	// Size is the content's, in bytes, without padding.
	Size int64
	// Carried is how many bytes of payload, padding included, this call sent or
	// received: less than Size when it resumed.
	Carried int64
}

// A Stage is what a transfer is doing.
type Stage uint8

// The stages, in their order.
const (
	Hashing      Stage = 1 + iota // a sender hashes its content, a receiver what it has already
	Transferring                  // parts are under way
	Checking                      // a receiver checks the whole before it names the file
)

func (s Stage) String() string {
	switch s {
	case Hashing:
		return "hashing"
	case Transferring:
		return "transferring"
	case Checking:
		return "checking"
	}
	return fmt.Sprintf("stage %d", uint8(s))
}

// Options of a transfer. The zero value is the default.
type Options struct {
	// ChunkSize is how many bytes of content a part carries: a power of two
	// between MinChunk and MaxChunk. 0 means 256 KiB, or what keeps the number of
	// chunks below 65,536. For senders.
	ChunkSize int
	// K and N divide each chunk into N parts, any K of which give it, for parts
	// that wait at mailboxes of which some may go. 0 and 0 mean that a part is a
	// chunk; K = 1 makes N copies. N is at most splitter.MaxMinPaths. Over a conn
	// K parts of each chunk are sent. For senders.
	K, N int
	// Private pads the content so that its size says little (Padmé: at most 12 %,
	// less for large blobs). The true size is inside. For senders.
	Private bool
	// MaxSize is the largest blob, in bytes and with its padding, that a receiver
	// takes. 0 means DefaultMaxSize.
	MaxSize int64
	// Want is the only blob that a receiver takes, when it isn't zero.
	Want ID
	// Progress, when set, is called with what a stage has done so far, in bytes,
	// of how many, from the goroutine that made the call.
	Progress func(s Stage, done, total int64)
}

func (o *Options) progress(s Stage, done, total int64) {
	if o.Progress != nil {
		o.Progress(s, done, total)
	}
}

// accepts says whether a receiver with these options takes the blob.
func (o *Options) accepts(m *Manifest) error {
	limit := o.MaxSize
	if limit == 0 {
		limit = DefaultMaxSize
	}
	if m.Size > limit {
		return &SizeError{m.Size, limit}
	}
	if o.Want != (ID{}) && m.ID() != o.Want {
		return fmt.Errorf("%w: wanted %v, was offered %v", ErrOtherBlob, o.Want, m.ID())
	}
	return nil
}
