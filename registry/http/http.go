// Package httpregistry is a directory of records over HTTP: [NewHandler] serves any [registry.Directory], and a [Client]
// is one.
//
// The smallest server, with timeouts since the handler has none of its own:
//
//	server := &http.Server{
//		Addr:         ":8080",
//		Handler:      httpregistry.NewHandler(memory.New(), httpregistry.Options{}),
//		ReadTimeout:  10 * time.Second,
//		WriteTimeout: 30 * time.Second,
//	}
//	return server.ListenAndServe()
//
// And the smallest client:
//
//	node := &mesh.Node{Directory: &httpregistry.Client{URL: "https://directory.example"}}
//
// What the package promises:
//
//   - A server can withhold records, never forge one: what a Client returns was signed by the peer asked for, may be used
//     now, and is no older than what the Client has seen of that peer; a revocation that it has seen stays.
//   - A name is told, not proven: see [registry.Namer].
//   - What either end sends makes the other hold a bounded amount, and a Client waits a bounded time.
//   - A token goes to the host in URL and to no other, over TLS or within the machine, and stands in no error or log.
//
// The paths, headers and errors are in docs/SPEC.md.
package httpregistry

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"

	"github.com/splitmesh/splitmesh/registry"
)

const (
	// RecordType is the media type of a signed record.
	RecordType = "application/vnd.splitmesh.record+cbor"
	// MaxPage is how many records a page has at most.
	MaxPage = 100

	recordsPath = "/v1/records"
	namesPath   = "/v1/names"

	// Sizes in bytes of what a Client reads. A record in a page is base64 in quotes, with a comma.
	maxPageBody = MaxPage*((registry.MaxSize+2)/3*4+3) + 1024
	maxNameBody = 512
)

// A Token is a secret that lets its bearer in. Formatting, logging or marshalling it never shows it; convert it to a
// string to do that.
type Token string

const hidden = "[token]"

// String says that there is a token, and nothing of it.
func (t Token) String() string {
	if t == "" {
		return ""
	}
	return hidden
}

// GoString is String.
func (t Token) GoString() string { return t.String() }

// Format writes what String returns, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue implements [slog.LogValuer] with String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText implements [encoding.TextMarshaler] with String.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// etag returns the entity tag of a record's bytes, which both ends compute: SHA-256 in base64url.
func etag(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
}
