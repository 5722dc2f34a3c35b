// Package rekey moves the paths of a session to new keys, all together, while
// they carry data.
//
// The keys of a path begin as its handshake left them. From then on they advance
// by commits: a proposal and its acceptance, two messages of the session's
// control lane, which is sealed, reliable and in order.
//
//	session dialler                                 session responder
//	      │   (wish: please propose)                       │
//	      │◀───────────────────────────────────────────────┤
//	      │   propose: number, X25519 and ML-KEM keys,     │
//	      │            the paths that are to move          │
//	      ├───────────────────────────────────────────────▶│ can open old and new frames
//	      │   accept: number, X25519 key, ciphertext,      │ on each path that moves;
//	      │           those of the paths that move         │ seals old ones
//	      │◀───────────────────────────────────────────────┤
//	opens │                                                │
//	both, │ ══ path 1: a ping, sealed with the new key ═══▶│ forgets path 1's old keys;
//	seals │ ◀═ path 1: its pong, with the new key ═════════┤ seals new frames on it
//	new   │                                                │
//	      │ ══ path 2: the same, at its own pace …         │
//
// Data goes on all the while: the dialler changes keys when the acceptance
// comes, the responder on each path when it sees that the dialler has, so nobody
// ever has to open what it has no key for, however much faster one path is than
// another. The next commit waits until the dialler has opened a new frame on
// each path that moved and is still alive. Only the session dialler proposes; so
// two wishes at once are one commit.
//
// A [State] is one end of it. It does no I/O; it is told what happens, and says
// which secrets the path's frame.Sealer and frame.Opener go on with:
//
//	s := rekey.New(dialler, &first.Exporter, rekey.Limits{}, now)
//	err := s.Join(first.PathID, &first.Exporter)    // and each path that joins later
//
//	if s.Sealed(path, frames, bytes); s.Due(now) {  // at the dialler; the responder sends s.Wish()
//		body, err := s.Propose(e)                // with a NewEphemeral; → send it
//	}
//	accept, open, err := s.HandlePropose(now, r) // with r of Respond; apply open, then send accept
//	open, seal, err := s.HandleAccept(now, c)    // with c of Conclude; apply open, then seal; ping each path
//	seal, ok := s.Opened(path, epoch)            // at each frame of a new epoch
//
// What it promises: the secrets of a commit are known only to who knows the
// secrets before it, a fresh X25519 and a fresh ML-KEM-768 secret, and the
// exporter secret of every path that moved for the first time. So who missed one
// of these paths, and has broken all else, can't read on; who steals the secrets
// of a session can't read what came before the last commit, nor, by listening
// alone, what comes after the next. Both ends hold the same secrets or the first
// new frame of each path fails to open. No two paths, directions or epochs share
// a secret. What a peer sends can neither be taken twice nor make a State hold
// more than one commit of at most [MaxPaths] paths; after a refusal the State is
// as before.
//
// What it does not: who holds a session's present secrets and can alter what is
// sent stays in the middle. Secrets are overwritten when they are done with, but
// Go and its libraries may have made copies.
package rekey

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"time"
)

// MaxPaths is the most paths that a State has at once, and that one commit moves.
const MaxPaths = 8

// Limits say when keys have served long enough. A field of 0 is its default.
type Limits struct {
	Age    time.Duration // since the last commit; 24 h
	Bytes  uint64        // sealed in one direction of a path with one key; 10^9
	Frames uint64        // likewise; 2^30, which is half of what the key can do
}

func (l Limits) withDefaults() Limits {
	l.Age = cmp.Or(l.Age, 24*time.Hour)
	l.Bytes = cmp.Or(l.Bytes, 1e9)
	l.Frames = cmp.Or(l.Frames, 1<<30)
	return l
}

// A Key is the secret that a path goes on with, in one direction. It formats and
// marshals as which it is, and without the secret.
type Key struct {
	Path   uint32
	Epoch  uint32 // of the path's frames; one more than before
	Secret [32]byte
}

// String returns which key k is.
func (k Key) String() string {
	return fmt.Sprintf("key of path %d, epoch %d (secret withheld)", k.Path, k.Epoch)
}

// Format writes k.String(), whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue returns k.String().
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns k.String(), so that encoding/json shows no secret.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A State is one end of a session's rekeying. It is not for concurrent use.
type State struct {
	dialler  bool
	limits   Limits
	root     [32]byte  // from which the next commit goes on
	number   uint32    // of the last commit; 0 before the first
	since    time.Time // when that was
	paths    []*path   // alive, by ascending id
	wished   bool      // dialler: a wish to be granted. Responder: one that was sent
	proposal *Proposal // dialler: not accepted yet
}

// A path is in one of two states:
//
//	settled ──▶ moving   the openers take a new key as well as the old: the
//	                     dialler handles an accept, the responder a propose
//	moving ──▶ settled   a frame of the new epoch was opened
type path struct {
	id       uint32
	epoch    uint32   // of the last commit that moved it, counted from 0 for each path
	exporter [32]byte // zeros from the first commit on
	moving   bool
	seal     [32]byte // the responder's next secret, while moving

	frames, bytes uint64 // sealed with the present key
}

// New returns the State of a session whose first path has the given exporter
// secret. Dialler says that this end dialled that path. The first path has to
// Join like the others.
func New(dialler bool, exporter *[32]byte, limits Limits, now time.Time) *State {
	return &State{dialler: dialler, limits: limits.withDefaults(), root: rootOf(exporter), since: now}
}

// Commits returns how many commits there were.
func (s *State) Commits() uint32 { return s.number }

// Join adds a path, whose frames are in epoch 0. The responder must do so before
// it can be told of the path, the dialler when it begins to seal on it. A path
// of which only one end knows yet is left out of a commit. The error is ErrPaths
// for id 0, one that is there, and the path after MaxPaths.
func (s *State) Join(id uint32, exporter *[32]byte) error {
	at, found := slices.BinarySearchFunc(s.paths, id, (*path).compare)
	if found || id == 0 || len(s.paths) == MaxPaths {
		return &Error{"join", fmt.Errorf("%w: %d, beside %d others", ErrPaths, id, len(s.paths))}
	}
	s.paths = slices.Insert(s.paths, at, &path{id: id, exporter: *exporter})
	return nil
}

// Leave forgets a path that died. One that is not there is ignored.
func (s *State) Leave(id uint32) {
	at, found := slices.BinarySearchFunc(s.paths, id, (*path).compare)
	if found {
		clear(s.paths[at].exporter[:])
		clear(s.paths[at].seal[:])
		s.paths = slices.Delete(s.paths, at, at+1)
	}
}

// Sealed counts what was sealed on a path.
func (s *State) Sealed(id uint32, frames, bytes int) {
	if p := s.path(id); p != nil {
		p.frames += uint64(frames)
		p.bytes += uint64(bytes)
	}
}

// Due reports whether it is time for a commit: the dialler is to Propose, the
// responder to Wish. It is false while either is under way, and so true once for
// each commit if that is what follows.
func (s *State) Due(now time.Time) bool {
	if !s.idle() || len(s.paths) == 0 || s.wished && !s.dialler {
		return false
	}
	if s.wished || !now.Before(s.DueAt()) {
		return true
	}
	return slices.ContainsFunc(s.paths, func(p *path) bool {
		return p.frames >= s.limits.Frames || p.bytes >= s.limits.Bytes
	})
}

// DueAt returns when the keys will be too old, if nothing else comes before.
func (s *State) DueAt() time.Time { return s.since.Add(s.limits.Age) }

// Close overwrites all secrets. After it, s has no paths.
func (s *State) Close() {
	for len(s.paths) > 0 {
		s.Leave(s.paths[0].id)
	}
	s.forgetProposal()
	clear(s.root[:])
	s.number = math.MaxUint32 // no commit follows
}

// idle reports whether a commit could begin now.
func (s *State) idle() bool { return s.proposal == nil && s.settled() && s.number < math.MaxUint32 }

// settled reports whether the last commit is complete on every path.
func (s *State) settled() bool {
	return !slices.ContainsFunc(s.paths, func(p *path) bool { return p.moving })
}

func (s *State) path(id uint32) *path {
	if at, found := slices.BinarySearchFunc(s.paths, id, (*path).compare); found {
		return s.paths[at]
	}
	return nil
}

func (p *path) compare(id uint32) int { return cmp.Compare(p.id, id) }

// Format writes where s stands, and no secret, whatever the verb.
func (s *State) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "rekey.State(commit %d, %d paths)", s.number, len(s.paths))
}
