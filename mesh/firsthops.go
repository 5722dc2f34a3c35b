package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/atomicfile"
	"github.com/splitmesh/splitmesh/internal/session"
)

const (
	// A first hop is kept for 4 to 8 weeks, by chance, so that nobody who sets up
	// relays knows when his turn comes.
	minHopLife = 4 * 7 * 24 * time.Hour
	maxHopLife = 8 * 7 * 24 * time.Hour
	// hopPatience is how long a first hop may be out of reach before another
	// takes its place.
	hopPatience = 3 * 24 * time.Hour
	// maxFirstHops is as many as one session uses at once.
	maxFirstHops = session.MaxPaths
	// maxFirstHopsFile is more than that many lines take.
	maxFirstHopsFile = 4 << 10
)

// FirstHops are the relays that a node prefers when it uses relays only: the first
// ones that worked, for weeks. Over a life of many sessions a node that drew
// its relays anew each time would meet every spy among them; one that stays with a few
// meets a spy early or never (cf. Wright et al., "The predecessor attack", 2004).
//
// Its zero value is empty and lives in memory. With LoadFirstHops it survives the
// node, which is what makes it useful. It is safe for concurrent use.
type FirstHops struct {
	path string // "": memory only

	mu   sync.Mutex // guards the rest
	hops []firstHop
}

type firstHop struct {
	relay   identity.ID
	expires time.Time
	failing time.Time // since when it could not be reached; zero: it could
}

// LoadFirstHops reads the first hops from a file, and keeps the file up to date
// from then on. A file that does not exist is made when there is something to keep.
func LoadFirstHops(path string) (*FirstHops, error) {
	h := &FirstHops{path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("first hops: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFirstHopsFile+1))
	if err == nil {
		h.hops, err = parseFirstHops(b)
	}
	if err != nil {
		return nil, fmt.Errorf("first hops: %s: %w; delete the file to begin anew", path, err)
	}
	return h, nil
}

// Relays returns the first hops, oldest first.
func (h *FirstHops) Relays() (out []identity.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.hops {
		out = append(out, h.hops[i].relay)
	}
	return out
}

// has reports whether relay is a first hop, and forgets those that have expired.
func (h *FirstHops) has(relay identity.ID, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hops = slices.DeleteFunc(h.hops, func(f firstHop) bool { return !now.Before(f.expires) })
	return h.index(relay) >= 0
}

func (h *FirstHops) index(relay identity.ID) int {
	return slices.IndexFunc(h.hops, func(f firstHop) bool { return f.relay == relay })
}

// worked notes that relay carried a path, and makes it a first hop if there is room.
func (h *FirstHops) worked(relay identity.ID, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch i := h.index(relay); {
	case i >= 0 && h.hops[i].failing.IsZero(), i < 0 && len(h.hops) >= maxFirstHops:
		return nil
	case i >= 0:
		h.hops[i].failing = time.Time{}
	default:
		life := minHopLife + time.Duration(rand.Int64N(int64(maxHopLife-minHopLife)))
		h.hops = append(h.hops, firstHop{relay: relay, expires: now.Add(life).Truncate(time.Second)})
	}
	return h.save()
}

// failed notes that relay could not be reached. One that has long been out of
// reach makes room for another.
func (h *FirstHops) failed(relay identity.ID, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.index(relay)
	switch {
	case i < 0:
		return nil
	case h.hops[i].failing.IsZero():
		h.hops[i].failing = now.Truncate(time.Second)
	case now.Sub(h.hops[i].failing) >= hopPatience:
		h.hops = slices.Delete(h.hops, i, i+1)
	default:
		return nil
	}
	return h.save()
}

// save writes the file anew, so that it is whole at every moment. mu is held.
func (h *FirstHops) save() error {
	if h.path == "" {
		return nil
	}
	return atomicfile.Write(h.path, appendFirstHops(nil, h.hops))
}

// appendFirstHops writes a line for each: ID, expiry and since when it fails, in
// Unix seconds, 0 for never.
func appendFirstHops(b []byte, hops []firstHop) []byte {
	for i := range hops {
		failing := int64(0)
		if !hops[i].failing.IsZero() {
			failing = hops[i].failing.Unix()
		}
		b = fmt.Appendf(b, "%s %d %d\n", hops[i].relay, hops[i].expires.Unix(), failing)
	}
	return b
}

var errFirstHops = errors.New("not a list of first hops")

// parseFirstHops reads what appendFirstHops wrote, and nothing else.
func parseFirstHops(b []byte) (hops []firstHop, err error) {
	if len(b) > maxFirstHopsFile {
		return nil, fmt.Errorf("%w: over %d bytes", errFirstHops, maxFirstHopsFile)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 || len(hops) == maxFirstHops {
			return nil, fmt.Errorf("%w: line %.80q", errFirstHops, line)
		}
		relay, err := identity.ParseID(f[0])
		expires, err1 := strconv.ParseInt(f[1], 10, 64)
		failing, err2 := strconv.ParseInt(f[2], 10, 64)
		if err := errors.Join(err, err1, err2); err != nil {
			return nil, fmt.Errorf("%w: %w", errFirstHops, err)
		}
		hop := firstHop{relay: relay, expires: time.Unix(expires, 0)}
		if failing != 0 {
			hop.failing = time.Unix(failing, 0)
		}
		hops = append(hops, hop)
	}
	if !bytes.Equal(appendFirstHops(nil, hops), b) {
		return nil, fmt.Errorf("%w: written in another way", errFirstHops)
	}
	return hops, nil
}
