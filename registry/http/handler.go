package httpregistry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Options are what a handler may be told. The zero value serves everybody.
type Options struct {
	// ReadToken is asked of whoever reads. Empty means that anybody may.
	ReadToken Token
	// WriteToken is asked of whoever publishes, and lets them read too. Empty means that whoever may read may publish:
	// each only its own record, for it is signed.
	WriteToken Token

	// PerAddress limits the requests from one address: an IPv4 address, or 64 bits of an IPv6 address. The zero value
	// means 100, and 10 a second.
	PerAddress Rate
	// PerRecord limits how often the record of one peer is replaced. The zero value means 10, and one every 10 seconds.
	PerRecord Rate
	// PerNewcomer limits how often one address brings a peer that has no record. The zero value means 256, and one every
	// 10 seconds: in registry.MaxLife, after which their places may be given up, some 17,500 of the 65,536 that
	// registry/memory has.
	PerNewcomer Rate
	// ClientAddr returns the address from which a request came, when RemoteAddr is that of a proxy. What a header says
	// of it is worth what the proxy is that wrote it: take what yours wrote and no more. nil means RemoteAddr, and no
	// header is looked at. Those that have no valid address share one bucket.
	ClientAddr func(*http.Request) netip.Addr

	// MaxAge is for how long caches may keep a record; less when it ends before. 0 means 30 seconds.
	MaxAge time.Duration
	// Now is the clock. nil means time.Now.
	Now func() time.Time
	// Logger is told when the directory fails. nil means slog.Default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.WriteToken = cmp.Or(o.WriteToken, o.ReadToken)
	o.PerAddress = cmp.Or(o.PerAddress, Rate{100 * time.Millisecond, 100})
	o.PerRecord = cmp.Or(o.PerRecord, Rate{10 * time.Second, 10})
	o.MaxAge = cmp.Or(o.MaxAge, 30*time.Second)
	o.PerNewcomer = cmp.Or(o.PerNewcomer, Rate{10 * time.Second, 256})
	if o.ClientAddr == nil {
		o.ClientAddr = remoteAddr
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// remoteAddr returns the address at the other end of the connection, or none when that is no internet address.
func remoteAddr(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr()
}

type handler struct {
	dir     registry.Directory
	o       Options
	mux     *http.ServeMux
	readers []digest // any of them
	writers []digest
	clients *buckets[netip.Prefix]
	records *buckets[identity.ID]
	// newcomers are those of the addresses that bring them.
	newcomers *buckets[netip.Prefix]
}

// NewHandler returns a handler that serves the directory below /v1: names when it is a [registry.Namer], and lists when
// it is a [registry.Lister]. Put it behind http.StripPrefix to have it elsewhere, and below a server with a ReadTimeout
// and a WriteTimeout: a page that nobody reads takes half a megabyte until then.
func NewHandler(dir registry.Directory, o Options) http.Handler {
	o = o.withDefaults()
	h := &handler{
		dir: dir, o: o, mux: http.NewServeMux(),
		clients: newBuckets[netip.Prefix](o.PerAddress), records: newBuckets[identity.ID](o.PerRecord),
		newcomers: newBuckets[netip.Prefix](o.PerNewcomer),
	}
	if o.WriteToken != "" {
		h.writers = []digest{sha256.Sum256([]byte(o.WriteToken))}
	}
	if o.ReadToken != "" {
		h.readers = []digest{h.writers[0], sha256.Sum256([]byte(o.ReadToken))}
	}
	get := func(f endpoint) methods { return methods{http.MethodGet: f, http.MethodHead: f} }
	records := get(h.lookup)
	records[http.MethodPut] = h.publish
	h.mux.Handle(recordsPath+"/{id}", h.serve(records))
	h.mux.Handle(recordsPath, h.serve(get(h.list)))
	h.mux.Handle(namesPath+"/{name}", h.serve(get(h.resolve)))
	h.mux.Handle("/", h.serve(nil))
	return h
}

// An endpoint answers a request, or returns why not.
type endpoint func(http.ResponseWriter, *http.Request) *problem

type methods map[string]endpoint

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wait := h.clients.take(network(h.o.ClientAddr(r)), h.o.Now()); wait > 0 {
		h.slowDown(w, wait, "from your address").write(w)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// network returns all that one client is taken to have.
func network(a netip.Addr) netip.Prefix {
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // an invalid address gives the zero prefix, which is a key like any other
	return p
}

func (h *handler) slowDown(w http.ResponseWriter, wait time.Duration, what string) *problem {
	seconds := int64(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	return &problem{kind: slowDown, detail: fmt.Sprintf("too many %s: try again in %d s", what, seconds)}
}

// serve looks at the method and the token.
func (h *handler) serve(by methods) http.Handler {
	allow := "GET, HEAD"
	if by[http.MethodPut] != nil {
		allow += ", PUT"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		f, who := by[r.Method], h.readers
		if r.Method == http.MethodPut {
			who = h.writers
		}
		var p *problem
		switch {
		case by == nil:
			p = &problem{kind: noRoute}
		case f == nil:
			w.Header().Set("Allow", allow)
			p = &problem{kind: method}
		case !admitted(r, who):
			w.Header().Set("WWW-Authenticate", `Bearer realm="splitmesh"`)
			p = &problem{kind: unauthorized}
		default:
			p = f(w, r)
		}
		if p != nil {
			p.write(w)
		}
	})
}

type digest = [sha256.Size]byte

// admitted reports whether the request bears one of the tokens, or none is asked for. Digests have one length, so that
// the time it takes says nothing of a token, not even its length.
func admitted(r *http.Request, tokens []digest) bool {
	if len(tokens) == 0 {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, found := sha256.Sum256([]byte(token)), 0
	for _, want := range tokens {
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return found == 1 && strings.EqualFold(scheme, "Bearer")
}

// failed returns the problem that an error of the directory is. What is not the record's fault is the operator's to know,
// and not the client's.
func (h *handler) failed(r *http.Request, err error) *problem {
	p := &problem{kind: unavailable}
	for _, k := range refusals {
		if errors.Is(err, k.err) {
			p = &problem{kind: k, detail: detail(err)}
			break
		}
	}
	if errors.Is(err, registry.ErrNotFound) {
		p.status = http.StatusNotFound // also when it was there once, and has expired
	}
	switch {
	case p.kind == full:
		h.o.Logger.Warn("registry/http: the directory is full", "path", r.URL.Path, "err", err)
	case p.kind == unavailable && r.Context().Err() == nil:
		h.o.Logger.Warn("registry/http: the directory failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	return p
}

// detail is what is wrong, without what was being done to whom: the client knows that. Of several errors, which
// [errors.Join] puts on a line each, it tells none: some may be the operator's to know.
func detail(err error) string {
	var re *registry.RecordError
	if errors.As(err, &re) {
		err = re.Err
	}
	s := err.Error()
	switch {
	case strings.Contains(s, "\n"):
		return ""
	case re != nil && re.Field != "":
		return re.Field + ": " + s
	}
	return s
}

// pathID returns the ID in the path.
func pathID(r *http.Request) (identity.ID, *problem) {
	id, err := identity.ParseID(r.PathValue("id"))
	if err != nil {
		return id, &problem{kind: badRequest, detail: err.Error()}
	}
	return id, nil
}

func (h *handler) lookup(w http.ResponseWriter, r *http.Request) *problem {
	id, p := pathID(r)
	if p != nil {
		return p
	}
	record, err := h.dir.Lookup(r.Context(), id)
	if err != nil {
		return h.failed(r, err)
	}
	now := h.o.Now()
	age := h.o.MaxAge
	if !record.Revoked {
		age = min(age, time.UnixMilli(record.Expires).Sub(now))
	}
	made := time.UnixMilli(record.Sequence)
	if made.After(now) { // RFC 9110 §8.8.2.1
		made = now
	}
	encoded := record.Marshal()
	tag := etag(encoded)
	header := w.Header()
	header.Set("ETag", tag)
	cacheable := ""
	if len(h.readers) > 0 { // some shared caches keep the answer to one token for whoever has none
		cacheable = "private, "
	}
	header.Set("Cache-Control", fmt.Sprintf("%smax-age=%d", cacheable, max(0, age/time.Second)))
	header.Set("Last-Modified", made.UTC().Format(http.TimeFormat))
	switch {
	case !matches(r.Header.Values("If-Match"), tag, true):
		return &problem{kind: precondition}
	case !matches(r.Header.Values("If-None-Match"), tag, false):
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	header.Set("Content-Type", RecordType)
	header.Set("Content-Length", strconv.Itoa(len(encoded)))
	_, _ = w.Write(encoded) // of HEAD, net/http sends the header alone; who does not read it has gone
	return nil
}

func (h *handler) resolve(w http.ResponseWriter, r *http.Request) *problem {
	namer, ok := h.dir.(registry.Namer)
	if !ok {
		return &problem{kind: unsupported, detail: "it gives no names"}
	}
	id, err := namer.Resolve(r.Context(), r.PathValue("name"))
	if err != nil {
		return h.failed(r, err)
	}
	writeJSON(w, wireName{id.String()})
	return nil
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) *problem {
	lister, ok := h.dir.(registry.Lister)
	if !ok {
		return &problem{kind: unsupported, detail: "it lists no records"}
	}
	var (
		after identity.ID
		n     = MaxPage
		query = r.URL.Query()
		err   error
	)
	if s := query.Get("after"); s != "" {
		if after, err = identity.ParseID(s); err != nil {
			return &problem{kind: badRequest, detail: "after: " + err.Error()}
		}
	}
	if s := query.Get("limit"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			return &problem{kind: badRequest, detail: "limit: it must be a number from 1 on"}
		}
	}
	capability := query.Get("capability")
	if len(capability) > registry.MaxCapability {
		return &problem{kind: badRequest, detail: "capability: it is too long"}
	}
	records, next, err := lister.List(r.Context(), after, min(n, MaxPage), capability)
	if err != nil {
		return h.failed(r, err)
	}
	writeJSON(w, encodePage(records, next))
	return nil
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("httpregistry: encoding an answer: " + err.Error()) // strings and bytes have no reason to fail
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// current returns the record that the directory has of id, or nil.
func (h *handler) current(ctx context.Context, id identity.ID) (*registry.Record, error) {
	r, err := h.dir.Lookup(ctx, id)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	return r, err
}
