package splitter

import "fmt"

// A Class says which of a session's bytes go first. Within a class, conns share
// what there is; a lower class waits while a higher one has something to send.
type Class uint8

const (
	// Interactive goes before Bulk: what a person waits for. It is the default.
	Interactive Class = 1
	// Bulk is for files and backups: it takes what is left.
	Bulk Class = 2
)

func (c Class) String() string {
	switch c {
	case Interactive:
		return "interactive"
	case Bulk:
		return "bulk"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// WithDefaults returns Interactive for 0, and an error wrapping ErrPolicy for a
// class that is none.
func (c Class) WithDefaults() (Class, error) {
	switch c {
	case 0:
		return Interactive, nil
	case Interactive, Bulk:
		return c, nil
	}
	return c, fmt.Errorf("%w: %v is no priority class; use Interactive or Bulk, or 0 for the default", ErrPolicy, c)
}
