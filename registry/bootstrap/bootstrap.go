// Package bootstrap turns what a person writes down of a network's first nodes into their addresses: a multiaddr, a web
// server's name, or a name in the DNS.
//
//	addrs, err := bootstrap.Resolve(ctx, "https://example.org", "/dnsaddr/example.net", "/ip4/192.0.2.1/tcp/443/wss/p2p/…")
//	if err != nil {
//		return err
//	}
//	node := &mesh.Node{Bootstrap: addrs}
//
// What it promises: an address that it returns ends in the ID of the node that it is of, which a dial proves. Who runs the
// web server or the zone says whose ID that is: it is trusted for it, as who writes a multiaddr down is. A record from a
// web server is signed by its node, and none that has expired or was revoked is used. What is read, asked and returned is
// bounded, and no source keeps another from being asked. The DNS proves nothing: whoever is on the way to the resolver can
// answer for a zone. A source that ends in the ID, /dnsaddr/NAME/p2p/ID, takes no other node.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// WellKnown is the path at which a web server has the signed record of its node (RFC 8615).
const WellKnown = "/.well-known/splitmesh"

const (
	// MaxAddrs bounds what one source gives.
	MaxAddrs = 64
	// maxDepth bounds the names that lead to other names, maxNames those that are asked in all.
	maxDepth, maxNames = 4, 32
	// maxSource bounds a source, in bytes.
	maxSource = 512
	// Timeout bounds a Resolve.
	Timeout = 10 * time.Second
)

// Why nothing comes of a source. They come wrapped in an [*Error].
var (
	ErrSource = errors.New("it is neither a multiaddr that ends in /p2p/ID, nor https://HOST, nor /dnsaddr/NAME")
	ErrNoAddr = errors.New("it names no node's address")
)

// An Error says which source failed, and why.
type Error struct {
	Source string // cut to 256 bytes
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("bootstrap from %q: %v", e.Source, e.Err) }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// A Resolver resolves sources, of one call all at once. Its zero value is ready for use.
type Resolver struct {
	// Client fetches records. nil is http.DefaultClient.
	Client *http.Client
	// LookupTXT asks the DNS. nil is that of net.DefaultResolver.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// Resolve is that of a zero Resolver.
func Resolve(ctx context.Context, sources ...string) ([]multiaddr.Multiaddr, error) {
	return new(Resolver).Resolve(ctx, sources...)
}

// Resolve returns the addresses that the sources name, each once, and in their order. If any source gives one, there is no
// error; else it is of all, and each is an [*Error].
func (r *Resolver) Resolve(ctx context.Context, sources ...string) ([]multiaddr.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	type answer struct {
		addrs []multiaddr.Multiaddr
		err   error
	}
	answers := make([]answer, len(sources))
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() { // ends when s has answered, which the timeout bounds
			answers[i].addrs, answers[i].err = r.resolve(ctx, s)
		})
	}
	wg.Wait()
	var all []multiaddr.Multiaddr
	var errs []error
	seen := make(map[string]bool)
	for i, s := range sources {
		addrs, err := answers[i].addrs, answers[i].err
		if err == nil && len(addrs) == 0 {
			err = ErrNoAddr
		}
		if err != nil {
			errs = append(errs, &Error{s[:min(len(s), 256)], err})
		}
		for _, a := range addrs[:min(len(addrs), MaxAddrs)] {
			if !seen[a.String()] {
				seen[a.String()] = true
				all = append(all, a)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// Check returns an [*Error], which wraps [ErrSource], for a source of no form that Resolve takes. It asks nobody.
func Check(source string) error {
	_, a, err := parse(source)
	if err == nil && a != nil && !named(a) {
		_, err = peerOf(a)
	}
	if err != nil {
		return &Error{source[:min(len(source), 256)], err}
	}
	return nil
}

// parse returns the web server or the multiaddr that the source is.
func parse(source string) (*url.URL, multiaddr.Multiaddr, error) {
	if len(source) > maxSource {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrSource, len(source))
	}
	if strings.HasPrefix(source, "https://") {
		u, err := url.Parse(source)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
			return nil, nil, fmt.Errorf("%w: want https://HOST, and nothing behind it", ErrSource)
		}
		return u, nil, nil
	}
	a, err := transport.Parse(source) // which takes an ID in either spelling
	if err != nil {
		return nil, nil, fmt.Errorf("%w (%w)", ErrSource, err)
	}
	return nil, a, nil
}

func (r *Resolver) resolve(ctx context.Context, source string) ([]multiaddr.Multiaddr, error) {
	u, a, err := parse(source)
	switch {
	case err != nil:
		return nil, err
	case u != nil:
		return r.fetch(ctx, u)
	}
	return r.expand(ctx, a, new(asked), 0)
}

// named reports whether a is a name, and stands for other addresses.
func named(a multiaddr.Multiaddr) bool { return len(a) > 0 && a[0].Code() == multiaddr.P_DNSADDR }

// asked counts the names that were asked.
type asked struct{ names int }

// expand returns a, or what the name that it is stands for.
func (r *Resolver) expand(ctx context.Context, a multiaddr.Multiaddr, n *asked, depth int) ([]multiaddr.Multiaddr, error) {
	if !named(a) {
		if _, err := peerOf(a); err != nil {
			return nil, err
		}
		return []multiaddr.Multiaddr{a}, nil
	}
	if n.names++; n.names > maxNames || depth == maxDepth {
		return nil, fmt.Errorf("over %d names, or %d after one another, lead to others", maxNames, maxDepth)
	}
	lookup := r.LookupTXT
	if lookup == nil {
		lookup = net.DefaultResolver.LookupTXT
	}
	texts, err := lookup(ctx, "_dnsaddr."+string(a[0].RawValue()))
	if err != nil {
		return nil, err
	}
	rest := a[1:] // what each must end in
	var out []multiaddr.Multiaddr
	for _, text := range texts {
		value, ok := strings.CutPrefix(text, "dnsaddr=")
		if !ok {
			continue
		}
		b, err := transport.Parse(value)
		if err != nil || !endsIn(b, rest) {
			continue // others may do
		}
		more, err := r.expand(ctx, b, n, depth+1)
		if err != nil && n.names > maxNames {
			return nil, err
		}
		if out = append(out, more...); len(out) >= MaxAddrs {
			return out[:MaxAddrs], nil
		}
	}
	return out, nil
}

func endsIn(a, end multiaddr.Multiaddr) bool {
	if len(a) < len(end) {
		return false
	}
	for i, c := range end {
		if d := a[len(a)-len(end)+i]; !d.Equal(&c) {
			return false
		}
	}
	return true
}

// peerOf returns the ID that a ends in.
func peerOf(a multiaddr.Multiaddr) (identity.ID, error) {
	if len(a) < 2 || a[len(a)-1].Code() != multiaddr.P_P2P {
		return identity.ID{}, fmt.Errorf("%w: %s", ErrSource, a)
	}
	return identity.ParseID(a[len(a)-1].Value())
}

// fetch gets a record from a web server, and makes addresses of it.
func (r *Resolver) fetch(ctx context.Context, u *url.URL) ([]multiaddr.Multiaddr, error) {
	u.Path = WellKnown
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{}
	if r.Client != nil {
		client = *r.Client
	}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) > 3 {
			return http.ErrUseLastResponse // which is not what was asked for
		}
		return nil
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: the server answers %d %s at %s: does its node publish there?", ErrNoAddr, resp.StatusCode, http.StatusText(resp.StatusCode), WellKnown)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, registry.MaxSize+1))
	if err != nil {
		return nil, err
	}
	rec, err := registry.Parse(b)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	if err := rec.Check(now()); err != nil {
		return nil, err
	}
	peer, err := multiaddr.NewComponent("p2p", rec.ID.PeerID())
	if err != nil {
		return nil, err
	}
	var out []multiaddr.Multiaddr // none, when it is a revocation
	for _, a := range rec.Addrs {
		switch id, err := peerOf(a); {
		case err != nil:
			out = append(out, append(a[:len(a):len(a)], *peer))
		case id == rec.ID:
			out = append(out, a)
		}
	}
	return out, nil
}

// Handler serves the record that current returns, at [WellKnown] of a web server, or 404 when that is nil.
func Handler(current func() *registry.Record) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		rec := current()
		if rec == nil || req.Method != http.MethodGet && req.Method != http.MethodHead {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.splitmesh.record+cbor")
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write(rec.Marshal())
	})
}
