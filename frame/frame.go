// Package frame is the wire codec of sealed frames: what a path carries.
//
// A frame begins with eight bytes, big-endian:
//
//	version 4 bits | type 4 bits | flags 8 | length 16 | sequence 32
//
// and takes one of two forms. The full form continues with the sender's public
// key (32 bytes) and an explicit random nonce (24), and is sealed with
// XChaCha20-Poly1305 under a key that both ends have before they have met: it
// carries the handshake ([SealFull], [OpenFull], [ReadFull]). The compact form
// is the eight bytes alone, key and nonce implied by the path, and carries
// everything after the handshake ([Sealer], [Opener]):
//
//	s, _ := frame.NewSealer(frame.AES256GCM, &secret, 0)
//	wire, _ := s.Seal(nil, []byte("hello"))
//
//	o, _ := frame.NewOpener(frame.AES256GCM, &secret, 0)
//	n, _ := o.Size(wire[:frame.Peek]) // 29: how much to read
//	plain, _ := o.Open(wire[:n])      // "hello"
//
// What the package promises: the header is authenticated in both forms; the
// compact header is masked (RFC 9001, section 5.4), so that its wire bytes look
// random to whoever lacks the path's secret, length excepted; a key and nonce
// never meet twice; a length is checked before anything is allocated; frames
// open only in the order in which they were sealed, none skipped, doubled or
// moved to another path, direction or epoch; and an [Opener] that met an error
// opens nothing more. Sealing and opening a compact frame allocates nothing.
package frame

// Version is the version of the protocol, the first four bits of each frame.
const Version = 1

// Sizes in bytes.
const (
	HeaderSize     = 8                    // of the header of the compact form
	FullHeaderSize = HeaderSize + 32 + 24 // of the header of the full form: 64
	TagSize        = 16                   // of the authentication tag that ends each frame

	// MaxPlaintext is the most that one frame of either form can carry.
	MaxPlaintext = 1<<16 - 1 - TagSize
)

// Types of frame. In the compact form the type is always TypeData; what the
// frame is really about is said inside its seal.
const (
	TypeHandshake = 1
	TypeData      = 2
)

// header is the eight bytes that every frame begins with.
type header uint64

func newHeader(typ, flags uint8, length int, seq uint32) header {
	return header(Version<<60 | uint64(typ&15)<<56 | uint64(flags)<<48 | uint64(uint16(length))<<32 | uint64(seq))
}

func (h header) version() uint8 { return uint8(h >> 60) }
func (h header) typ() uint8     { return uint8(h>>56) & 15 }
func (h header) flags() uint8   { return uint8(h >> 48) }
func (h header) length() int    { return int(uint16(h >> 32)) } // of what follows the form's header
func (h header) seq() uint32    { return uint32(h) }
