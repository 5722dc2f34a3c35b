// Package protocol is what two nodes of meshchat say to each other, as bytes.
//
// Who has something to deliver dials the service "chat", says [Hello], is told [Welcome], and then sends one [Batch] after
// the other, each of which is answered by an [Answer] before the next is sent. What the other side has to deliver goes over
// a conn that it dials. A frame is its length in 4 bytes, big-endian, and CBOR in the core deterministic form of RFC 8949
// §4.2.1; a second spelling of the same content is refused.
//
// Nobody says who he is: the mesh has proven that, for the whole conn. So a message has no sender that could be forged.
package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/splitmesh/splitmesh/identity"
)

// Service is what nodes listen on. FileService is the beginning of the names of those that take one file each.
const (
	Service     = "chat"
	FileService = "chat-file/"
)

// Version is what this package speaks.
const Version = 1

// Limits. Whatever is beyond is refused before it is decoded, or right after.
const (
	MaxFrame    = 128 << 10 // bytes
	MaxHello    = 1 << 10   // bytes of the frame that a stranger's conn begins with
	MaxBatch    = 32        // messages
	MaxText     = 16 << 10  // bytes of UTF-8
	MaxName     = 64        // bytes of a room's name or of what somebody calls himself
	MaxFileName = 200       // bytes
	MaxFileSize = 1 << 40   // bytes
	MaxMembers  = 63        // of a room, beside its creator
	SecretSize  = 16        // bytes
	MaxID       = 1 << 62   // so that there is always a higher one
)

// ErrMalformed says that bytes are no frame of this protocol.
var ErrMalformed = errors.New("the peer does not follow the chat protocol")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// A Chat is a conversation: with Peer, or, when Room isn't 0, in that room of Peer's. Since a room is named by its creator,
// nobody can speak for another's.
type Chat struct {
	Peer identity.ID `cbor:"1,keyasint"`
	Room uint64      `cbor:"2,keyasint,omitempty"`
}

// Hello begins a conn.
type Hello struct {
	Version uint8 `cbor:"1,keyasint"`
	// Secret is that of an invitation, which it uses up.
	Secret []byte `cbor:"2,keyasint,omitempty"`
	// Nick is what the peer calls himself.
	Nick string `cbor:"3,keyasint,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Version uint8 `cbor:"1,keyasint"`
	// Known says that the peer is a contact; else what he sends is held as a request.
	Known bool `cbor:"2,keyasint,omitempty"`
}

// A Batch is messages in the order in which they were written, and a receipt.
type Batch struct {
	Messages []Message `cbor:"1,keyasint,omitempty"`
	// Read is the highest ID of the receiver's direct messages that the sender's person has seen.
	Read uint64 `cbor:"2,keyasint,omitempty"`
}

// A Message has exactly one of Text, File, Reply, Members and Leave.
type Message struct {
	// ID is when the message was written, in Unix microseconds, or one more than the one before, whichever is later. So it
	// is the sender's only one, and says the order.
	ID uint64 `cbor:"1,keyasint"`
	// Room is nil in a direct message. Only its creator sends Members.
	Room    *Chat    `cbor:"2,keyasint,omitempty"`
	Text    string   `cbor:"3,keyasint,omitempty"`
	File    *File    `cbor:"4,keyasint,omitempty"`
	Reply   *Reply   `cbor:"5,keyasint,omitempty"`
	Members *Members `cbor:"6,keyasint,omitempty"`
	// Leave says that the sender, who is not the room's creator, is no longer in it.
	Leave bool `cbor:"7,keyasint,omitempty"`
}

// A File is offered.
type File struct {
	Name string `cbor:"1,keyasint"`
	Size int64  `cbor:"2,keyasint"`
}

// A Reply is about the file that the receiver offered with the message ID, or, when Mine is set, that the sender offered and
// takes back. Accepted means that the sender listens for it.
type Reply struct {
	ID       uint64 `cbor:"1,keyasint"`
	Accepted bool   `cbor:"2,keyasint,omitempty"`
	Mine     bool   `cbor:"3,keyasint,omitempty"`
}

// Members says who is in a room, beside its creator, from now on.
type Members struct {
	Name string        `cbor:"1,keyasint"`
	IDs  []identity.ID `cbor:"2,keyasint,omitempty"` // ascending
}

// A Status says what became of a message.
type Status uint8

// The statuses. Later asks for the message again: perhaps a room that it is for is not known yet.
const (
	Taken Status = 1 + iota
	Later
	Refused
)

// An Answer has a status for each message of the batch.
type Answer struct {
	Status []Status `cbor:"1,keyasint,omitempty"`
}

// A frame is one of the types above.
type frame interface{ validate() error }

// In is the chat that the message is of, seen from the node that has it from peer or sends it to peer.
func (m *Message) In(peer identity.ID) Chat {
	if m.Room != nil {
		return *m.Room
	}
	return Chat{Peer: peer}
}

func (h *Hello) validate() error {
	if len(h.Secret) != 0 && len(h.Secret) != SecretSize {
		return malformed("a secret of %d bytes", len(h.Secret))
	}
	return text("nick", h.Nick, 0, MaxName)
}

func (w *Welcome) validate() error { return nil }

func (b *Batch) validate() error {
	if len(b.Messages) > MaxBatch {
		return malformed("%d messages in a batch", len(b.Messages))
	}
	if b.Read > MaxID {
		return malformed("a receipt beyond the highest ID")
	}
	for i := range b.Messages {
		if err := b.Messages[i].validate(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Message) validate() error {
	if m.ID == 0 || m.ID > MaxID {
		return malformed("a message has the ID %d", m.ID)
	}
	if m.Room != nil {
		if _, err := identity.NewID(m.Room.Peer[:]); err != nil || m.Room.Room == 0 {
			return malformed("a room that can't be")
		}
	}
	kinds := 0
	for _, has := range []bool{m.Text != "", m.File != nil, m.Reply != nil, m.Members != nil, m.Leave} {
		if has {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return malformed("a message of %d kinds", kinds)
	case m.File != nil:
		if m.File.Size < 0 || m.File.Size > MaxFileSize {
			return malformed("a file of %d bytes", m.File.Size)
		}
		return text("file name", m.File.Name, 1, MaxFileName)
	case m.Reply != nil:
		if m.Room != nil || m.Reply.ID == 0 || m.Reply.ID > MaxID || m.Reply.Mine && m.Reply.Accepted {
			return malformed("a reply to no file")
		}
		return nil
	case m.Members != nil:
		return m.Members.validate(m.Room)
	case m.Leave:
		if m.Room == nil {
			return malformed("somebody leaves no room")
		}
		return nil
	}
	return text("text", m.Text, 1, MaxText)
}

func (s *Members) validate(room *Chat) error {
	if room == nil {
		return malformed("members of no room")
	}
	if len(s.IDs) > MaxMembers {
		return malformed("a room of %d members", len(s.IDs))
	}
	for i, id := range s.IDs {
		if _, err := identity.NewID(id[:]); err != nil {
			return malformed("a member that can't be")
		}
		if id == room.Peer || i > 0 && s.IDs[i-1].Compare(id) >= 0 {
			return malformed("members that are not in order")
		}
	}
	return text("room's name", s.Name, 1, MaxName)
}

func (a *Answer) validate() error {
	if len(a.Status) > MaxBatch || slices.ContainsFunc(a.Status, func(s Status) bool { return s < Taken || s > Refused }) {
		return malformed("an impossible answer")
	}
	return nil
}

func text(what, s string, least, most int) error {
	if len(s) < least || len(s) > most || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return malformed("%s: %d bytes, or not text", what, len(s))
	}
	return nil
}

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("protocol: CBOR encoder: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid,
		MaxArrayElements: max(MaxMembers, MaxBatch, 16), MaxMapPairs: 16, MaxNestedLevels: 8,
	}.DecMode()
	if err != nil {
		panic("protocol: CBOR decoder: " + err.Error())
	}
	return enc, dec
}

// encode returns f as CBOR.
func encode(f frame) ([]byte, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	return encMode.Marshal(f)
}

// decode reads CBOR into f. What encode would have written otherwise is refused: IDs of another length for example, or an
// order of its own.
func decode(b []byte, f frame) error {
	if err := decMode.Unmarshal(b, f); err != nil {
		return malformed("%v", err)
	}
	again, err := encode(f)
	if err == nil && !bytes.Equal(again, b) {
		err = malformed("a second spelling")
	}
	return err
}

// Write writes a frame.
func Write(w io.Writer, f frame) error {
	b, err := encode(f)
	if err != nil {
		return err
	}
	if len(b) > MaxFrame {
		return malformed("a frame of %d bytes", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// Read reads a frame of at most limit bytes.
func Read(r io.Reader, limit int, f frame) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(min(limit, MaxFrame)) {
		return malformed("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("within a frame: %w", err)
	}
	return decode(b, f)
}

// Size is about how many bytes a message takes in a batch.
func (m *Message) Size() int {
	n := 64 + len(m.Text)
	if m.File != nil {
		n += len(m.File.Name)
	}
	if m.Members != nil {
		n += len(m.Members.Name) + len(m.Members.IDs)*(identity.Size+2)
	}
	return n
}

// Marshal and Unmarshal are how others of meshchat's packages keep values: as CBOR of the same form.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal reads what Marshal wrote.
func Unmarshal(b []byte, v any) error { return storeMode.Unmarshal(b, v) }

var storeMode = func() cbor.DecMode {
	dec, err := cbor.DecOptions{TagsMd: cbor.TagsForbidden, DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 12}.DecMode()
	if err != nil {
		panic("protocol: CBOR decoder: " + err.Error())
	}
	return dec
}()
