package forward

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// MaxMessage bounds a message, Patience the wait for one.
const (
	MaxMessage = 4 << 10
	Patience   = 10 * time.Second
)

// WriteMessage writes v as JSON after its length, two bytes, the most significant first.
func WriteMessage(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("a message of %d bytes: %d are allowed", len(b), MaxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// ReadMessage reads what WriteMessage wrote, and not a byte more.
func ReadMessage(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > MaxMessage {
		return fmt.Errorf("a message of %d bytes: %d are allowed", n, MaxMessage)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// Ask sends a message and takes the answer, as long as ctx lasts.
func Ask(ctx context.Context, c net.Conn, question, answer any) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) }) // it fails for what is closed
	defer stop()
	err := WriteMessage(c, question)
	if err == nil {
		err = ReadMessage(c, answer)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
