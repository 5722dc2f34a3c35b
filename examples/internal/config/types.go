package config

import (
	"bytes"
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

// An Addr is a multiaddr.
type Addr struct{ multiaddr.Multiaddr }

// IsZero reports whether there is none.
func (a Addr) IsZero() bool { return a.Multiaddr == nil }

// UnmarshalText reads a multiaddr.
func (a *Addr) UnmarshalText(b []byte) (err error) {
	a.Multiaddr, err = transport.Parse(string(b))
	return err
}

// MarshalText writes it.
func (a Addr) MarshalText() ([]byte, error) {
	if a.Multiaddr == nil {
		return nil, nil
	}
	return []byte(a.String()), nil
}

// Addrs returns the multiaddrs.
func Addrs(list []Addr) (out []multiaddr.Multiaddr) {
	for _, a := range list {
		out = append(out, a.Multiaddr)
	}
	return out
}

// A Size is a number of bytes. As text it may have a unit: 512, 64KiB, 1.5GB.
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("%.80q is no size: write one like 512, 64KiB or 1.5GB", b)
	}
	if bytes.ContainsAny(b, "123456789") && (n == 0 || n < 1024 && bytes.ContainsRune(b, '.') && !bytes.ContainsAny(b, "kKmMgGtTpPeE")) {
		return fmt.Errorf("%.80q is no whole number of bytes: write one, or one with a unit, like 64KiB", b)
	}
	*s = Size(n)
	return nil
}

// MarshalText writes a size so that nothing is lost.
func (s Size) MarshalText() ([]byte, error) {
	const units = "KMGTPE"
	n, unit := uint64(s), ""
	for i := 0; n > 0 && n%1024 == 0 && i < len(units); i++ {
		n, unit = n/1024, units[i:i+1]+"iB"
	}
	return fmt.Appendf(nil, "%d%s", n, unit), nil
}
