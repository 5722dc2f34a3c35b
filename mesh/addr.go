package mesh

import (
	"fmt"
	"strings"

	"github.com/splitmesh/splitmesh/identity"
)

// Addr is the address of one end of a conn: a service of a peer. Its text is
// "peer:service", which Dial takes.
type Addr struct {
	ID      identity.ID
	Service string
}

// Network returns "mesh".
func (Addr) Network() string { return "mesh" }

// String returns "peer:service", or the peer alone when there is no service.
func (a Addr) String() string {
	if a.Service == "" {
		return a.ID.String()
	}
	return a.ID.String() + ":" + a.Service
}

// MaxServiceName is the longest name of a service, in bytes.
const MaxServiceName = 63

// An AddrError reports a string that is not an address.
type AddrError struct {
	Addr string // as given, cut to 128 bytes
	Why  string
	Err  error
}

func (e *AddrError) Error() string {
	msg := fmt.Sprintf("mesh address %q: %s", e.Addr, e.Why)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *AddrError) Unwrap() error { return e.Err }

func addrError(addr, why string, err error) error {
	return &AddrError{Addr: addr[:min(len(addr), 128)], Why: why, Err: err}
}

// ParseAddr reads "peer:service". The peer is an ID in either spelling; the
// service is 1 to 63 characters of a-z, 0-9, '-', '_', '.' and '/'. Errors are *AddrError.
func ParseAddr(s string) (Addr, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return Addr{}, addrError(s, `want "peer:service"`, nil)
	}
	id, err := identity.ParseID(s[:i])
	if err != nil {
		return Addr{}, addrError(s, "peer", err)
	}
	if err := checkService(s[i+1:]); err != nil {
		return Addr{}, addrError(s, err.Error(), nil)
	}
	return Addr{id, s[i+1:]}, nil
}

// checkService reports what is wrong with a service's name.
func checkService(name string) error {
	if len(name) == 0 || len(name) > MaxServiceName {
		return fmt.Errorf("a service name has 1 to %d characters, this one %d", MaxServiceName, len(name))
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '/') {
			return fmt.Errorf("a service name has a-z, 0-9, '-', '_', '.' and '/', not %q", c)
		}
	}
	return nil
}
