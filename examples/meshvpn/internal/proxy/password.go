package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// A Password is what those who use the proxies are asked for, with any user name. Empty: nothing.
type Password string

// Valid implements socks5.CredentialStore.
func (p Password) Valid(_, given, _ string) bool {
	a, b := sha256.Sum256([]byte(p)), sha256.Sum256([]byte(given)) // so that time does not tell how long it is
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// sent reports whether a request has the password (RFC 9110, section 11.7).
func (p Password) sent(r *http.Request) bool {
	if p == "" {
		return true
	}
	proxy := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	_, given, ok := proxy.BasicAuth()
	return ok && p.Valid("", given, "")
}
