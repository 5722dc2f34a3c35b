package main

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// settings are all there is to say.
type settings struct {
	Node     node.Settings    `name:"node"`
	Relay    relaySettings    `name:"relay"`
	Site     siteSettings     `name:"site"`
	TLS      tlsSettings      `name:"tls"`
	Registry registrySettings `name:"registry"`
	Monitor  monitorSettings  `name:"monitor"`
	Drain    drainSettings    `name:"drain"`
	Trace    traceSettings    `name:"trace"`
	Log      program.Log      `name:"log"`
}

type relaySettings struct {
	MaxReservations       int           `name:"max-reservations" help:"peers that may be reached through the relay; 0 is 4096"`
	MaxCircuits           int           `name:"max-circuits" help:"circuits at once; 0 is 8192"`
	MaxCircuitsPerPeer    int           `name:"max-circuits-per-peer" help:"of these, those that one peer dialled; 0 is 256"`
	MaxCircuitsPerNetwork int           `name:"max-circuits-per-network" help:"those dialled from one IPv4 /16 or IPv6 /32; 0 is 2048. Behind a CDN all come from its networks"`
	MaxCircuitBytes       config.Size   `name:"max-circuit-bytes" help:"what one circuit may carry, both ways together; 0: any amount"`
	BytesPerSecond        config.Size   `name:"bytes-per-second" help:"what the circuits of one dialling peer may carry together; 0: any amount"`
	Buffer                config.Size   `name:"buffer" help:"memory for all streams' windows above their first 256 KiB; 0 is 256MiB"`
	Allow                 []identity.ID `name:"allow" help:"the only peers that may reserve and dial; none here and in allow-file: everybody"`
	Deny                  []identity.ID `name:"deny" help:"peers that may not, also if they are allowed"`
	AllowFile             string        `name:"allow-file" help:"file with more of allow, an ID on each line; if it is empty, nobody else may"`
	DenyFile              string        `name:"deny-file" help:"file with more of deny"`
}

type siteSettings struct {
	Root     string      `name:"root" help:"directory of the website that strangers see at the WebSocket port; none: every page is 404"`
	Announce config.Addr `name:"announce" help:"where others reach the WebSocket port, if not as listened on: /dns/NAME/tcp/443/wss"`
}

type tlsSettings struct {
	Cert    string   `name:"cert" help:"file with the certificate chain, PEM; read again on SIGHUP"`
	Key     string   `name:"key" help:"file with its private key, PEM"`
	Domains []string `name:"acme-domains" help:"names to get certificates for, by ACME; to do so agrees to the authority's terms"`
	Email   string   `name:"acme-email" help:"whom the authority writes to when something is wrong"`
	CA      string   `name:"acme-ca" help:"the authority's directory; none: Let's Encrypt"`
	Roots   string   `name:"acme-roots" help:"file with the certificates by which the authority's own web server is trusted, PEM"`
}

type registrySettings struct {
	Serve          string `name:"serve" help:"where to serve a registry: site (at the WebSocket port), HOST:PORT (without TLS: for this machine, or a proxy in front), or nothing"`
	Keep           string `name:"keep" help:"where its records are kept: memory or file (in the state directory)"`
	MaxRecords     int    `name:"max-records" help:"how many it holds; 0 is 65536 in memory, 16384 in files"`
	Requests       int    `name:"requests-per-second" help:"what one address may ask; ten times as much at once"`
	ClientHeader   string `name:"client-header" help:"header in which your CDN or proxy writes the client's address, the last of a list counts; none: the connection's"`
	ReadTokenFile  string `name:"read-token-file" help:"file with the bearer token that readers need"`
	WriteTokenFile string `name:"write-token-file" help:"file with the one that who publishes needs; none: readers may"`
}

type monitorSettings struct {
	Listen string `name:"listen" help:"HOST:PORT of /healthz, /readyz and /metrics, for whoever reaches it; empty: none"`
}

type drainSettings struct {
	Timeout time.Duration `name:"timeout" help:"how long peers may take to move to other relays before it ends"`
}

type traceSettings struct {
	Endpoint string `name:"otlp-endpoint" help:"URL of a collector to which traces of registry and admin requests go, as http://127.0.0.1:4318; none: no traces. OTEL_EXPORTER_OTLP_HEADERS has what it wants to be told"`
}

// defaults serve circuits and the DHT.
func defaults() *settings {
	return &settings{
		Node: node.Default(), Log: program.DefaultLog(), Registry: registrySettings{Keep: "memory", Requests: 10},
		Monitor: monitorSettings{Listen: "127.0.0.1:9464"}, Drain: drainSettings{Timeout: time.Minute},
	}
}

// reloadable are the settings, or the sections, that SIGHUP changes.
var reloadable = []string{
	"relay.", "tls.cert", "tls.key", "registry.requests-per-second", "registry.client-header", "registry.read-token-file",
	"registry.write-token-file", "drain.timeout", "log.level",
}

// needsRestart reports whether a setting counts from the next start on only.
func needsRestart(path string) bool {
	return path == "relay.buffer" || !slices.ContainsFunc(reloadable, func(p string) bool {
		return p == path || strings.HasSuffix(p, ".") && strings.HasPrefix(path, p)
	})
}

// atSite is where registrySettings.Serve puts it beside the WebSockets.
const atSite = "site"

// Validate implements config.Validator.
func (s *settings) Validate() (out []config.Problem) {
	bad := func(path, format string, args ...any) {
		out = append(out, config.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if len(s.Node.Listen) == 0 {
		bad("node.listen", "a relay has to be reached: write an address such as /ip4/0.0.0.0/tcp/4001/ws")
	}
	web, secure := false, false
	for _, a := range s.Node.Listen {
		w, t := isWeb(a.Multiaddr)
		web, secure = web || w, secure || t
	}
	certified := s.TLS.Cert != "" || len(s.TLS.Domains) > 0
	if secure && !certified {
		bad("node.listen", "wss needs a certificate: set tls.cert and tls.key, or tls.acme-domains")
	}
	if certified && !secure {
		bad("tls", "there is a certificate, and no address of node.listen ends in /wss")
	}
	if s.Registry.Serve == atSite && !web {
		bad("registry.serve", "there is no site: no address of node.listen ends in /ws or /wss")
	}
	if s.Site.Root != "" && !web {
		bad("site.root", "there is no site: no address of node.listen ends in /ws or /wss")
	}
	if a := s.Site.Announce.Multiaddr; a != nil {
		if w, _ := isWeb(a); !w || !web {
			bad("site.announce", "it is for a WebSocket, such as /dns/relay.example.org/tcp/443/wss")
		}
	}
	return out
}

// Validate implements config.Validator.
func (s *relaySettings) Validate() (out []config.Problem) {
	for _, n := range []struct {
		path string
		v    int64
	}{
		{"max-reservations", int64(s.MaxReservations)}, {"max-circuits", int64(s.MaxCircuits)},
		{"max-circuits-per-peer", int64(s.MaxCircuitsPerPeer)}, {"max-circuits-per-network", int64(s.MaxCircuitsPerNetwork)},
		{"bytes-per-second", int64(s.BytesPerSecond)},
	} {
		if n.v < 0 || n.v > math.MaxInt32 {
			out = append(out, config.Problem{Path: n.path, Text: fmt.Sprintf("%d is not between 0 and %d", n.v, math.MaxInt32)})
		}
	}
	return out
}

// Check implements config.Checker.
func (s *relaySettings) Check() (out []config.Problem) {
	for _, f := range []struct{ path, file string }{{"allow-file", s.AllowFile}, {"deny-file", s.DenyFile}} {
		if _, err := listed(nil, f.file); err != nil {
			out = append(out, config.Problem{Path: f.path, Text: err.Error()})
		}
	}
	return out
}

// Check implements config.Checker.
func (s *siteSettings) Check() (out []config.Problem) {
	if s.Root == "" {
		return nil
	}
	root, err := os.OpenRoot(s.Root)
	if err != nil {
		return []config.Problem{{Path: "root", Text: err.Error()}}
	}
	root.Close()
	return nil
}

// Check implements config.Checker.
func (s *tlsSettings) Check() (out []config.Problem) {
	if s.Cert != "" {
		if _, path, err := loadCert(s); err != nil {
			out = append(out, config.Problem{Path: path, Text: err.Error()})
		}
	}
	if _, err := s.roots(); err != nil {
		out = append(out, config.Problem{Path: "acme-roots", Text: err.Error()})
	}
	return out
}

// Check implements config.Checker.
func (s *registrySettings) Check() (out []config.Problem) {
	for _, f := range []struct{ path, file string }{{"read-token-file", s.ReadTokenFile}, {"write-token-file", s.WriteTokenFile}} {
		if _, err := node.Secret(f.file); err != nil {
			out = append(out, config.Problem{Path: f.path, Text: err.Error()})
		}
	}
	return out
}

// Validate implements config.Validator.
func (s *tlsSettings) Validate() (out []config.Problem) {
	bad := func(path, text string) { out = append(out, config.Problem{Path: path, Text: text}) }
	if (s.Cert == "") != (s.Key == "") {
		bad("cert", "cert and key go together")
	}
	if s.Cert != "" && len(s.Domains) > 0 {
		bad("acme-domains", "there is a certificate file already: take one or the other")
	}
	if s.CA != "" {
		if err := config.CheckURL(s.CA, "https"); err != nil {
			bad("acme-ca", err.Error())
		}
	}
	for _, d := range s.Domains {
		if _, err := multiaddr.NewComponent("dns", d); err != nil || strings.ContainsAny(d, "*/: ") {
			bad("acme-domains", fmt.Sprintf("%.80q is no name of a host", d))
		}
	}
	return out
}

// Validate implements config.Validator.
func (s *registrySettings) Validate() (out []config.Problem) {
	bad := func(path, format string, args ...any) {
		out = append(out, config.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if s.Serve != "" && s.Serve != atSite {
		if err := config.CheckHostPort(s.Serve); err != nil {
			bad("serve", "%v, nor site", err)
		}
	}
	if s.Keep != "memory" && s.Keep != "file" {
		bad("keep", "%.40q is none of: memory, file", s.Keep)
	}
	if s.MaxRecords < 0 || s.MaxRecords > 1<<24 {
		bad("max-records", "%d is not between 0 and %d", s.MaxRecords, 1<<24)
	}
	if s.Requests < 1 || s.Requests > 1e6 {
		bad("requests-per-second", "%d is not between 1 and 1000000", s.Requests)
	}
	if h := s.ClientHeader; h != "" && (strings.ContainsAny(h, " :\r\n") || http.CanonicalHeaderKey(h) == "Host") {
		bad("client-header", "%.40q is no header's name", h)
	}
	return out
}

// Validate implements config.Validator.
func (s *monitorSettings) Validate() (out []config.Problem) {
	if s.Listen != "" {
		if err := config.CheckHostPort(s.Listen); err != nil {
			out = append(out, config.Problem{Path: "listen", Text: err.Error()})
		}
	}
	return out
}

// Validate implements config.Validator.
func (s *drainSettings) Validate() (out []config.Problem) {
	if s.Timeout < 0 || s.Timeout > 24*time.Hour {
		out = append(out, config.Problem{Path: "timeout", Text: fmt.Sprintf("%v is not between 0 and 24h", s.Timeout)})
	}
	return out
}

// Validate implements config.Validator.
func (s *traceSettings) Validate() (out []config.Problem) {
	if s.Endpoint != "" {
		if err := config.CheckURL(s.Endpoint, "http", "https"); err != nil {
			out = append(out, config.Problem{Path: "otlp-endpoint", Text: err.Error()})
		}
	}
	return out
}

// config is what the library wants.
func (s *relaySettings) config(allow func(identity.ID) bool) mesh.RelayConfig {
	return mesh.RelayConfig{
		MaxReservations: s.MaxReservations, MaxCircuits: s.MaxCircuits, MaxCircuitsPerPeer: s.MaxCircuitsPerPeer,
		MaxCircuitsPerNetwork: s.MaxCircuitsPerNetwork, MaxCircuitBytes: uint64(s.MaxCircuitBytes),
		BytesPerSecond: int(s.BytesPerSecond), BufferBytes: int64(s.Buffer), Allow: allow,
	}
}

// isWeb reports whether an address is one of WebSockets, and whether these go over TLS.
func isWeb(a multiaddr.Multiaddr) (web, secure bool) {
	for _, c := range a {
		switch c.Code() {
		case multiaddr.P_WS:
			web = true
		case multiaddr.P_WSS:
			web, secure = true, true
		case multiaddr.P_TLS:
			secure = true
		}
	}
	return web, secure
}
