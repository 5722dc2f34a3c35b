package httpregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/splitmesh/splitmesh/registry"
)

const (
	problemType = "application/problem+json" // RFC 9457
	problemURN  = "urn:splitmesh:problem:"   // before the slug, in a problem's type
	maxProblem  = 4 << 10                    // bytes
	maxDetail   = 256                        // bytes
)

// A kind is what can go wrong, by the name that it has on the wire.
type kind struct {
	slug   string
	status int
	err    error // what a Client returns for it; its text is the problem's title
}

var (
	expired      = &kind{"expired", http.StatusUnprocessableEntity, registry.ErrExpired}
	future       = &kind{"future", http.StatusUnprocessableEntity, registry.ErrFuture}
	notFound     = &kind{"not-found", http.StatusNotFound, registry.ErrNotFound}
	badSignature = &kind{"bad-signature", http.StatusForbidden, registry.ErrBadSignature}
	malformed    = &kind{"malformed", http.StatusUnprocessableEntity, registry.ErrMalformed}
	tooLarge     = &kind{"too-large", http.StatusRequestEntityTooLarge, registry.ErrTooLarge}
	rollback     = &kind{"rollback", http.StatusConflict, registry.ErrRollback}
	nameTaken    = &kind{"name-taken", http.StatusConflict, registry.ErrNameTaken}
	full         = &kind{"full", http.StatusInsufficientStorage, registry.ErrFull}
	revoked      = &kind{"revoked", http.StatusGone, registry.ErrRollback}

	badRequest   = &kind{"bad-request", http.StatusBadRequest, errors.New("the request makes no sense here")}
	noRoute      = &kind{"no-route", http.StatusNotFound, errors.New("there is nothing at this path: check the URL")}
	method       = &kind{"method", http.StatusMethodNotAllowed, errors.New("the path has no such method")}
	mediaType    = &kind{"media-type", http.StatusUnsupportedMediaType, errors.New("the body must be of type " + RecordType)}
	unauthorized = &kind{"unauthorized", http.StatusUnauthorized, errors.New("no token, or not the right one: ask the directory's operator for one")}
	precondition = &kind{"precondition", http.StatusPreconditionFailed, errors.New("the record is not the one that the condition names")}
	slowDown     = &kind{"rate", http.StatusTooManyRequests, errors.New("too many requests: wait, and try again")}
	unsupported  = &kind{"unsupported", http.StatusNotImplemented, fmt.Errorf("the directory cannot do that: %w", errors.ErrUnsupported)}
	unavailable  = &kind{"unavailable", http.StatusServiceUnavailable, errors.New("the directory has failed: try again later, or ask its operator, whose log says why")}
)

// refusals are the kinds of what a directory may answer; expired and future come first, for they may also be why a record
// is not found. Kinds are all.
var (
	refusals = []*kind{expired, future, notFound, badSignature, malformed, tooLarge, rollback, nameTaken, full, revoked, unsupported}
	kinds    = append(slices.Clip(refusals), badRequest, noRoute, method, mediaType, unauthorized, precondition, slowDown, unavailable)
)

// A problem is the answer to a request that fails.
type problem struct {
	*kind
	status int    // 0: the kind's
	detail string // of this case, without secrets; may be empty
}

// wireProblem is the body, of which the rest of RFC 9457 is left out.
type wireProblem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *problem) write(w http.ResponseWriter) {
	status := p.status
	if status == 0 {
		status = p.kind.status
	}
	body, err := json.Marshal(wireProblem{problemURN + p.slug, p.err.Error(), status, clip(p.detail)})
	if err != nil {
		panic("httpregistry: encoding a problem: " + err.Error()) // strings and a number have no reason to fail
	}
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who does not read it has gone
}

// parseProblem returns the error that an answer stands for, with what the server says of it. The answer may be anybody's,
// such as a proxy's, and anything.
func parseProblem(status int, contentType string, body []byte) error {
	said := fmt.Errorf("it answers %d %s", status, http.StatusText(status))
	if status >= 300 && status < 400 {
		return fmt.Errorf("%w: redirects are not followed; set URL to where the directory is", said)
	}
	var p wireProblem
	if t, _, err := mime.ParseMediaType(contentType); err != nil || t != problemType || len(body) > maxProblem || json.Unmarshal(body, &p) != nil {
		return fmt.Errorf("%w, as no directory does: check the URL, or try again later", said)
	}
	slug, ok := strings.CutPrefix(p.Type, problemURN)
	for _, k := range kinds {
		switch {
		case !ok || k.slug != slug:
		case k == expired && status == http.StatusNotFound, k == future && status == http.StatusNotFound:
			return fmt.Errorf("%w: %w", registry.ErrNotFound, k.err)
		case p.Detail == "":
			return k.err
		default:
			return fmt.Errorf("%w (it says %q)", k.err, clip(p.Detail))
		}
	}
	return fmt.Errorf("%w, and says %q, %q", said, clip(p.Type), clip(p.Detail))
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxDetail)], "") }
