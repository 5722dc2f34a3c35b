package mesh

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
)

// gathered is how much WriteTo hands over at once, when so much has arrived.
const gathered = 256 << 10

// WriteTo implements [io.WriterTo], which [io.Copy] uses: what arrives goes to w from the
// memory that received it, several pieces with one call when w is a TCP conn.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	if err := c.readAnswer(); err != nil {
		return 0, err
	}
	var pieces net.Buffers
	var owners []*buf.Buf
	for {
		owners = owners[:0]
		pieces = pieces[:0]
		size := 0
		for size == 0 || size < gathered && c.stream.Stats().Buffered > 0 {
			p, owner, err := c.stream.ReadBuf()
			if err != nil && size > 0 {
				break // it comes again
			}
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			if err != nil {
				return n, err
			}
			pieces, owners = append(pieces, p), append(owners, owner)
			size += len(p)
		}
		rest := pieces // WriteTo consumes it
		k, err := rest.WriteTo(w)
		n += k
		if err == nil && k < int64(size) {
			err = io.ErrShortWrite
		}
		clear(pieces)
		for _, b := range owners {
			b.Release()
		}
		if err != nil {
			return n, err
		}
	}
}

// ReadFrom implements [io.ReaderFrom], which [io.Copy] uses: what a TCP conn brings is read
// into the memory that it is sent from.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	v := vectored(r)
	if v == nil {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	head := c.stream.Headroom()
	for bufs := make([]*buf.Buf, 0, maxVector); ; {
		bufs, err = v.read(bufs[:0], head)
		for i, b := range bufs {
			size := len(b.B) - head
			if err := c.writeBuf(b, i < len(bufs)-1); err != nil {
				for _, b := range bufs[i+1:] {
					b.Release()
				}
				return n, err
			}
			n += int64(size)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// writeBuf is Write of what lies in b behind the headroom. It takes over b.
func (c *Conn) writeBuf(b *buf.Buf, more bool) error {
	return c.whyNot(c.stream.WriteBuf(b, more))
}

// whyNot adds to the error of a write that waited in vain what for.
func (c *Conn) whyNot(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if why := c.stream.Waits(); why != nil {
			return &WaitError{why}
		}
	}
	return err
}

// maxVector is how many pieces of mux.ChunkSize are read at once.
const maxVector = 6

// A vector reads from a conn of the system into several pieces of memory with one call, and
// holds none while it waits.
type vector struct {
	conn  rawReader
	width int // how many pieces the next read takes
}

type rawReader interface {
	Read(f func(fd uintptr) (done bool)) error
}

// fill makes room for the next read: each Buf has head bytes before mux.ChunkSize.
func (v *vector) fill(bufs []*buf.Buf, head int) []*buf.Buf {
	for len(bufs) < v.width {
		bufs = append(bufs, buf.Get(head+mux.ChunkSize))
	}
	return bufs
}

// cut leaves the n bytes that were read, and settles how wide the next read is.
func (v *vector) cut(bufs []*buf.Buf, head, n int) []*buf.Buf {
	switch full := len(bufs) * mux.ChunkSize; {
	case n == full:
		v.width = min(2*v.width, maxVector)
	case n <= full/2:
		v.width = max(v.width/2, 1)
	}
	kept := 0
	for _, b := range bufs {
		size := min(n, mux.ChunkSize)
		if size == 0 {
			b.Release()
			continue
		}
		b.B = b.B[:head+size]
		n -= size
		kept++
	}
	return bufs[:kept]
}
