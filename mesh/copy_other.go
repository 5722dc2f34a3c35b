//go:build !linux && !darwin

package mesh

import (
	"io"

	"github.com/splitmesh/splitmesh/internal/buf"
)

func vectored(io.Reader) *vector { return nil }

func (*vector) read([]*buf.Buf, int) ([]*buf.Buf, error) { return nil, io.EOF }
