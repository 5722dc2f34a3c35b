package httpregistry

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/splitmesh/splitmesh/registry"
)

func (h *handler) publish(w http.ResponseWriter, r *http.Request) *problem {
	id, p := pathID(r)
	if p != nil {
		return p
	}
	record, p := h.body(w, r)
	if p != nil {
		return p
	}
	if record.ID != id {
		return &problem{kind: malformed, detail: fmt.Sprintf("id: it is %s's record, and not that of whom the path names", record.ID)}
	}
	if err := record.Check(h.o.Now()); err != nil {
		return h.failed(r, err)
	}
	current, err := h.current(r.Context(), id)
	if err != nil {
		return h.failed(r, err)
	}
	var tag string
	if current != nil {
		tag = etag(current.Marshal())
	}
	if !matches(r.Header.Values("If-Match"), tag, true) || !matches(r.Header.Values("If-None-Match"), tag, false) {
		return &problem{kind: precondition}
	}
	newcomer, from := current == nil, network(h.o.ClientAddr(r))
	if newcomer {
		if wait := h.newcomers.take(from, h.o.Now()); wait > 0 {
			return h.slowDown(w, wait, "new peers from your address")
		}
	}
	stays := false
	defer func() {
		if newcomer && !stays {
			h.newcomers.giveBack(from)
		}
	}()
	// Only the peer can make a newer record, and only one that is taken empties its bucket: whoever sends again an old
	// one, or one that is refused, takes nothing. A first revocation waits for nobody, for who stole the key may have
	// emptied the bucket.
	limited := record.Newer(current) && (!record.Revoked || current != nil && current.Revoked)
	if limited {
		if wait := h.records.take(id, h.o.Now()); wait > 0 {
			return h.slowDown(w, wait, "records of this peer")
		}
	}
	if err := h.dir.Publish(r.Context(), record); err != nil {
		if limited {
			h.records.giveBack(id)
		}
		p := h.failed(r, err)
		if p.kind == rollback && h.isRevoked(r, record) {
			p.kind = revoked
		}
		return p
	}
	stays = true
	w.Header().Set("ETag", etag(record.Marshal()))
	if newcomer {
		w.WriteHeader(http.StatusCreated)
	}
	return nil
}

// body reads the record in a request, whose signature is then known to be good.
func (h *handler) body(w http.ResponseWriter, r *http.Request) (*registry.Record, *problem) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != RecordType {
		return nil, &problem{kind: mediaType}
	}
	encoded, err := io.ReadAll(http.MaxBytesReader(w, r.Body, registry.MaxSize))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, &problem{kind: tooLarge, detail: fmt.Sprintf("at most %d bytes are allowed; publish fewer addresses", registry.MaxSize)}
	case err != nil:
		return nil, &problem{kind: badRequest, detail: "the body ended before its end"}
	}
	record, err := registry.Parse(encoded)
	if err != nil {
		return nil, h.failed(r, err)
	}
	return record, nil
}

func (h *handler) isRevoked(r *http.Request, refused *registry.Record) bool {
	current, err := h.current(r.Context(), refused.ID)
	return err == nil && current != nil && current.Revoked && !refused.Revoked
}

// matches reports whether a condition holds for the record with the tag, which is empty when there is none. The lines are
// those of If-Match, which wants the tag to be listed, or of If-None-Match, which wants it not to be. Without a line
// each holds. If-None-Match compares weakly, for proxies that compress weaken tags (RFC 9110 §13.1).
func matches(lines []string, tag string, want bool) bool {
	if len(lines) == 0 {
		return true
	}
	listed := false
	for _, line := range lines {
		// A tag may hold a comma. What it is cut into then is no tag of ours, which has quotes at both ends only.
		listed = listed || slices.ContainsFunc(strings.Split(line, ","), func(s string) bool {
			s = strings.TrimSpace(s)
			if !want {
				s = strings.TrimPrefix(s, "W/")
			}
			return tag != "" && (s == tag || s == "*")
		})
	}
	return listed == want
}
