package httpregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A Client is the directory that a handler of [NewHandler] serves at a URL. It implements [registry.Namer] and
// [registry.Lister]. It must not be copied, and its exported fields are read-only after the first method call.
//
// It remembers the newest record of each peer that it published or looked up, and of those that it saw in lists, some
// thousand of each, and asks the server only whether they have changed. When the server answers with an older record,
// Lookup fails with [registry.ErrRollback]. Revocations are remembered apart from other records, so that these do not
// push them out.
type Client struct {
	// URL is where the directory is, without /v1: https://directory.example. Plain http is for this machine, and for those
	// who send no token and believe no name: a record proves itself, and a name is what anybody on the way says.
	URL string
	// HTTPClient makes the requests. Its CheckRedirect is not used: no redirect is followed, except by a browser that
	// this runs in. nil means one that takes at most 16 KiB of header.
	HTTPClient *http.Client
	// Token is sent with every request when it is not empty.
	Token Token
	// Now is the clock. nil means time.Now.
	Now func() time.Time

	seen seen
}

var (
	_ registry.Namer  = (*Client)(nil)
	_ registry.Lister = (*Client)(nil)
)

// timeout is how long a request may take, its answer's body included.
const timeout = 30 * time.Second

var errSlow = fmt.Errorf("no complete answer within %v: try again later", timeout)

var defaultClient = &http.Client{Transport: &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	ForceAttemptHTTP2:      true,
	MaxIdleConnsPerHost:    4,
	IdleConnTimeout:        90 * time.Second,
	MaxResponseHeaderBytes: 16 << 10,
}}

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Publish implements [registry.Directory].
func (c *Client) Publish(ctx context.Context, r *registry.Record) error {
	fail := func(err error) error { return &registry.RecordError{Op: "publish", ID: r.ID, Err: err} }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := r.Check(c.now()); err != nil {
		return fail(err)
	}
	mine := r.Clone()
	if known := c.seen.known(r.ID); known != nil && !mine.Newer(known) && !mine.Equal(known) {
		return fail(fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(known.Sequence).UTC().Format(time.RFC3339)))
	}
	a, err := c.do(ctx, &request{method: http.MethodPut, path: []string{recordsPath, r.ID.String()}, body: mine.Marshal(), limit: maxProblem})
	if err != nil {
		return fail(err)
	}
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		return fail(a.failed())
	}
	c.seen.keep(mine, true)
	return nil
}

// Lookup implements [registry.Directory]. For a peer whose record has expired the error wraps [registry.ErrExpired] as
// well as [registry.ErrNotFound].
func (c *Client) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	r, err := c.lookup(ctx, id)
	if err != nil {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	return r.Clone(), nil
}

func (c *Client) lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id.IsZero() {
		return nil, registry.ErrNotFound
	}
	known := c.seen.known(id)
	if known != nil {
		known = c.seen.keep(known, true) // a list may have shown it; now that it is asked for, no list pushes it out
		if known.Revoked {
			return known, nil // for good, whatever the server says
		}
	}
	q := &request{method: http.MethodGet, path: []string{recordsPath, id.String()}, accept: RecordType, limit: registry.MaxSize}
	if known != nil {
		q.unless = etag(known.Marshal())
	}
	a, err := c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	r := known
	switch {
	case a.status == http.StatusNotModified && known != nil:
	case a.status != http.StatusOK:
		return nil, a.failed()
	default:
		// What was known before asking counts: another call may have learned of a newer one since.
		if r, err = a.record(id); err == nil && known != nil && known.Newer(r) {
			err = fmt.Errorf("%w, made at %s, and %s answers with an older one", registry.ErrRollback,
				time.UnixMilli(known.Sequence).UTC().Format(time.RFC3339), a.host)
		}
		if err != nil {
			return nil, err
		}
	}
	err = r.Check(c.now())
	if !errors.Is(err, registry.ErrFuture) { // one that has expired is still newer than those before it
		r = c.seen.keep(r, true)
		err = r.Check(c.now())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrNotFound, err)
	}
	return r, nil
}

// record returns the record that is the answer's body, and must be id's.
func (a *answer) record(id identity.ID) (*registry.Record, error) {
	if err := a.wantType(RecordType); err != nil {
		return nil, err
	}
	r, err := registry.Parse(a.body)
	if err != nil {
		return nil, fmt.Errorf("%s answers with something else than a record: %w", a.host, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("%s answers with the record of another, %s: %w", a.host, r.ID, registry.ErrMalformed)
	}
	return r, nil
}

// Resolve implements [registry.Namer].
func (c *Client) Resolve(ctx context.Context, name string) (identity.ID, error) {
	id, err := c.resolve(ctx, name)
	if err != nil {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	return id, nil
}

func (c *Client) resolve(ctx context.Context, name string) (id identity.ID, err error) {
	if err := ctx.Err(); err != nil {
		return id, err
	}
	if !registry.ValidName(name) {
		return id, fmt.Errorf("%w: nobody can be called %.40q", registry.ErrNotFound, name)
	}
	a, err := c.do(ctx, &request{method: http.MethodGet, path: []string{namesPath, name}, accept: jsonType, limit: maxNameBody})
	switch {
	case err != nil:
		return id, err
	case a.status != http.StatusOK:
		return id, a.failed()
	}
	if err = a.wantType(jsonType); err == nil {
		if id, err = parseName(a.body); err != nil {
			err = fmt.Errorf("%s answers with something else than an ID: %w", a.host, err)
		}
	}
	return id, err
}

// List implements [registry.Lister]. It returns at most [MaxPage] records.
func (c *Client) List(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	page, next, err = c.list(ctx, after, max(1, min(n, MaxPage)), capability)
	if err != nil {
		return nil, identity.ID{}, &registry.RecordError{Op: "list", Err: err}
	}
	return page, next, nil
}

func (c *Client) list(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, next, err
	}
	query := url.Values{"limit": {strconv.Itoa(n)}}
	if !after.IsZero() {
		query.Set("after", after.String())
	}
	if capability != "" {
		query.Set("capability", capability)
	}
	a, err := c.do(ctx, &request{method: http.MethodGet, path: []string{recordsPath}, query: query, accept: jsonType, limit: maxPageBody})
	switch {
	case err != nil:
		return nil, next, err
	case a.status != http.StatusOK:
		return nil, next, a.failed()
	}
	if err := a.wantType(jsonType); err != nil {
		return nil, next, err
	}
	records, next, err := parsePage(a.body, after, n)
	if err != nil {
		return nil, next, fmt.Errorf("%s answers with something else than a page: %w", a.host, err)
	}
	now := c.now()
	for _, r := range records {
		if errors.Is(r.Check(now), registry.ErrFuture) {
			continue
		}
		// In an older one's place stands the newest known. The server may have ended one that we have not, or not yet.
		r = c.seen.keep(r, false)
		if r.Check(now) == nil && (capability == "" || r.Has(capability)) {
			page = append(page, r.Clone())
		}
	}
	return page, next, nil
}

const jsonType = "application/json"

// A request is what one method asks of the server.
type request struct {
	method string
	path   []string
	query  url.Values
	body   []byte // a record, of PUT
	accept string
	unless string // a tag for If-None-Match
	limit  int    // bytes of the body of a 200
}

// An answer is what the server says, which may be anything within the limits.
type answer struct {
	host   string
	status int
	header http.Header
	body   []byte
}

// failed returns the error that an answer is that was not hoped for.
func (a *answer) failed() error {
	return fmt.Errorf("%s: %w", a.host, parseProblem(a.status, a.header.Get("Content-Type"), a.body))
}

func (a *answer) wantType(want string) error {
	got := a.header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(got); err != nil || t != want {
		return fmt.Errorf("%s answers with %q instead of %s: check the URL", a.host, clip(got), want)
	}
	return nil
}

// do sends a request and reads the answer. Once ctx is done its error wraps ctx.Err().
func (c *Client) do(ctx context.Context, q *request) (*answer, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	u := base.JoinPath(q.path...)
	u.RawQuery = q.query.Encode()
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.body != nil {
		req.Header.Set("Content-Type", RecordType)
	}
	for name, value := range map[string]string{"Accept": q.accept, "If-None-Match": q.unless} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.Token))
	}
	a, err := c.exchange(req, q.limit)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("asking %s: %w", base.Host, ctx.Err())
	case limited.Err() != nil:
		return nil, fmt.Errorf("asking %s: %w", base.Host, errSlow)
	}
	return nil, fmt.Errorf("asking %s: %w", base.Host, err)
}

// exchange reads no more than limit bytes of a 200, and maxProblem of anything else.
func (c *Client) exchange(req *http.Request, limit int) (*answer, error) {
	client := *defaultClient
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error // repeats the URL
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	good := resp.StatusCode == http.StatusOK
	if !good {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if good && len(body) > limit {
		return nil, fmt.Errorf("the answer is larger than %d bytes: %w", limit, registry.ErrTooLarge)
	}
	return &answer{req.URL.Host, resp.StatusCode, resp.Header, body}, nil
}

// base returns the URL, once it is sure that the token may go there.
func (c *Client) base() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("the URL does not parse: set it to one such as https://directory.example") // err may hold a password
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("the URL of %s has a user: what lets you in belongs into Token", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the URL of %s has a query or a fragment: set it to one such as https://directory.example", u.Host)
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%.100q is not the URL of a directory: set it to one such as https://directory.example", c.URL)
	case c.Token != "" && u.Scheme != "https" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("a token over plain http to %s would be everybody's: use https", u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}
