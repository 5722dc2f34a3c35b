package buf

// A Writer takes data without copying it: in a Buf, behind room for what it puts
// before the data.
type Writer interface {
	// Headroom is how many bytes WriteBuf needs before the data. It never changes.
	Headroom() int
	// WriteBuf writes b.B[Headroom():], as one Write would. It takes over the
	// caller's reference to b, which is the only one, and may overwrite all of it.
	// With more, another WriteBuf follows at once, or else Flush, and these bytes may
	// wait for it.
	WriteBuf(b *Buf, more bool) error
	// Flush writes what waits.
	Flush()
}

// A Reader hands over what it received in the memory that received it.
type Reader interface {
	// ReadBuf returns the next bytes in order, at least one. They lie in owner, to
	// which the caller gets a reference, and are the caller's to overwrite; their
	// capacity is that of owner's memory.
	ReadBuf() (p []byte, owner *Buf, err error)
}
