package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/transport"
)

// certificates are those of the site: of files, or of an authority that is asked by ACME.
type certificates struct {
	config *tls.Config
	close  func()
	// manage begins to ask the authority, once the site listens; nil: there is none.
	manage func(ctx context.Context) error
	// expiry is when the certificate ends that ends first; zero: one is not there yet.
	expiry func() time.Time

	cert atomic.Pointer[tls.Certificate] // of the files
}

// newCertificates returns nil when there are none.
func newCertificates(all *settings, state *program.State, log *slog.Logger) (*certificates, error) {
	s, c := &all.TLS, &certificates{close: func() {}}
	switch {
	case len(s.Domains) > 0:
		host, port := challenged(config.Addrs(all.Node.Listen))
		return c, c.acme(s, host, port, state, log)
	case s.Cert == "":
		return nil, nil
	}
	cert, path, err := loadCert(s)
	if err != nil {
		return nil, fmt.Errorf("tls.%s: %w", path, err)
	}
	c.cert.Store(cert)
	c.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.cert.Load(), nil
	}}
	c.expiry = func() time.Time { return c.cert.Load().Leaf.NotAfter }
	return c, nil
}

// loadCert reads both files. path is the setting whose fault an error is.
func loadCert(s *tlsSettings) (_ *tls.Certificate, path string, err error) {
	chain, err := os.ReadFile(s.Cert)
	if err != nil {
		return nil, "cert", err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(chain) {
		return nil, "cert", fmt.Errorf("%s holds no certificate in PEM", s.Cert)
	}
	key, err := os.ReadFile(s.Key)
	if err != nil {
		return nil, "key", err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil { // of the chain, too, if one in it can't be read
		return nil, "key", fmt.Errorf("%s for the certificate in %s: %w", s.Key, s.Cert, err)
	}
	return &cert, "", nil
}

// roots are the certificates by which the authority's web server is trusted; nil: the system's.
func (s *tlsSettings) roots() (*x509.CertPool, error) {
	if s.Roots == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(s.Roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", s.Roots)
	}
	return roots, nil
}

// challenged is where the site answers the authority: the first address with TLS. An empty host is every one.
func challenged(listen []multiaddr.Multiaddr) (host string, port int) {
	for _, a := range listen {
		_, hostport, _, err := transport.HostPort(a)
		if _, secure := isWeb(a); !secure || err != nil {
			continue
		}
		h, p, _ := net.SplitHostPort(hostport)
		port, _ = strconv.Atoi(p)
		if ip, err := netip.ParseAddr(h); err != nil || !ip.IsUnspecified() {
			host = h
		}
		break
	}
	return host, port
}

// acme has an authority prove the names over the site's own port, which has the library find it taken: no other is needed.
// The authority comes to 443; what leads from there to the site is the owner's to make.
func (c *certificates) acme(s *tlsSettings, host string, port int, state *program.State, log *slog.Logger) error {
	roots, err := s.roots()
	if err != nil {
		return fmt.Errorf("tls.acme-roots: %w", err)
	}
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           zap.NewNop(), // OnEvent tells
	})
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: state.Path("acme")}, Logger: zap.NewNop(),
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch name := slog.Any("name", data["identifier"]); event {
			case "cert_obtained":
				log.Info("certificate obtained", name, "renewed", data["renewal"])
			case "cert_failed":
				log.Error("no certificate; it is tried again", name, "err", data["error"])
			}
			return nil
		},
	})
	issuer := certmagic.NewACMEIssuer(magic, certmagic.ACMEIssuer{
		CA: s.CA, Email: s.Email, Agreed: true, DisableHTTPChallenge: true, TrustedRoots: roots, Logger: zap.NewNop(),
		ListenHost: host, AltTLSALPNPort: port,
	})
	if s.CA == "" {
		issuer.CA = certmagic.LetsEncryptProductionCA
	}
	issuer.TestCA = issuer.CA // a failure does not go to some other authority
	magic.Issuers = []certmagic.Issuer{issuer}
	c.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: magic.GetCertificate, NextProtos: []string{acmez.ACMETLS1Protocol}}
	c.close = cache.Stop
	c.expiry = func() (first time.Time) {
		for i, d := range s.Domains {
			var last time.Time // of the old and the new one
			for _, cert := range cache.AllMatchingCertificates(strings.ToLower(d)) {
				if cert.Leaf != nil && cert.Leaf.NotAfter.After(last) {
					last = cert.Leaf.NotAfter
				}
			}
			if i == 0 || last.Before(first) {
				first = last
			}
		}
		return first
	}
	c.manage = func(ctx context.Context) error { return magic.ManageAsync(ctx, s.Domains) }
	return nil
}

// reload reads the files again and returns what puts them to use.
func (c *certificates) reload(s *tlsSettings) (use func(), err error) {
	switch {
	case c == nil || c.manage != nil:
		return func() {}, nil // changes of these need a restart, and are told as such
	case s.Cert == "":
		return nil, errors.New("tls.cert: the site has no certificate any more: a restart is needed for that")
	}
	cert, path, err := loadCert(s)
	if err != nil {
		return nil, fmt.Errorf("tls.%s: %w", path, err)
	}
	return func() { c.cert.Store(cert) }, nil
}
