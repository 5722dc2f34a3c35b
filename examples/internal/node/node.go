// Package node makes a mesh node of settings, with the directories, names and key that they ask for.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/registry/file"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/mdns"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/transport"
)

// Settings are those of the node and of how it finds others.
type Settings struct {
	Listen         []config.Addr `name:"listen" help:"where neighbours reach this node directly, as /ip4/0.0.0.0/tcp/4001/ws; none: by relays only"`
	Bootstrap      []string      `name:"bootstrap" help:"relays and peers known from the start: multiaddrs that end in /p2p/ID, https://HOST, /dnsaddr/NAME"`
	Name           string        `name:"name" help:"what others may call this node, as NAME.mesh, where a directory gives names"`
	Operator       string        `name:"operator" help:"who runs it, for those who would not split over two relays of one operator"`
	Network        string        `name:"network" help:"the provider whose network it is in, for the same use"`
	NetworkKeyFile string        `name:"network-key-file" help:"file with 64 hexadecimal digits that all members of a private network have; default network-key in the state directory, if it is there"`
	PassphraseFile string        `name:"passphrase-file" help:"file with the passphrase of the key; none: one is made and kept beside the key"`
	Reservations   int           `name:"reservations" help:"at how many relays it is reserved; 0 is 3, -1 only those of bootstrap"`
	DHT            bool          `name:"dht" help:"find and be found by the distributed hash table"`
	LAN            bool          `name:"lan" help:"find and be found on the local network"`
	Registries     []string      `name:"registries" help:"URLs of HTTP registries to find and be found by"`
	TokenFile      string        `name:"registry-token-file" help:"file with the bearer token of the registries"`
	Hosts          string        `name:"hosts" help:"file of addresses and petnames of peers; default hosts in the state directory"`
}

// Default finds others by the DHT.
func Default() Settings { return Settings{DHT: true} }

// Validate implements config.Validator.
func (s *Settings) Validate() (out []config.Problem) {
	bad := func(path, format string, args ...any) {
		out = append(out, config.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if s.Name != "" && !registry.ValidName(s.Name) {
		bad("name", "%.40q is no name: 1 to %d characters a-z, 0-9 and hyphen", s.Name, registry.MaxName)
	}
	if s.Reservations < -1 || s.Reservations > 8 {
		bad("reservations", "%d is not between -1 and 8", s.Reservations)
	}
	for _, label := range []struct{ path, text string }{{"operator", s.Operator}, {"network", s.Network}} {
		if len(label.text) > registry.MaxLabel {
			bad(label.path, "it has %d bytes, and %d at most are allowed", len(label.text), registry.MaxLabel)
		}
	}
	for _, a := range s.Listen {
		_, _, over, err := transport.HostPort(a.Multiaddr)
		if kind := over.String(); err != nil || !slices.Contains([]string{"", "/ws", "/wss", "/tls/ws"}, kind) {
			bad("listen", "%.120q can't be listened on: write /ip4/HOST/tcp/PORT or /ip6/HOST/tcp/PORT, and /ws or /wss after it for WebSockets", a.String())
		}
	}
	for _, b := range s.Bootstrap {
		if !strings.HasPrefix(b, "/") {
			if err := config.CheckURL(b, "https"); err != nil {
				bad("bootstrap", "%v, nor a multiaddr", err)
				continue
			}
		}
		if err := bootstrap.Check(b); err != nil {
			bad("bootstrap", "%v", err)
		}
	}
	for _, r := range s.Registries {
		if err := config.CheckURL(r, "https", "http"); err != nil {
			bad("registries", "%v", err)
		}
	}
	if s.TokenFile != "" && len(s.Registries) == 0 {
		bad("registry-token-file", "there are no registries to send it to")
	}
	return out
}

// Check implements config.Checker. The hosts file is none of what it reads: one that is not there yet is told when the node
// starts, and heeded when it comes.
func (s *Settings) Check() (out []config.Problem) {
	add := func(path string, err error) {
		if err != nil {
			out = append(out, config.Problem{Path: path, Text: err.Error()})
		}
	}
	if s.NetworkKeyFile != "" {
		_, err := networkKey(s.NetworkKeyFile)
		add("network-key-file", err)
	}
	_, err := Secret(s.PassphraseFile)
	add("passphrase-file", err)
	_, err = Secret(s.TokenFile)
	add("registry-token-file", err)
	return out
}

// A Node is a mesh node with what it needs.
type Node struct {
	*mesh.Node
	DHT   *dht.DHT       // nil: not used
	Hosts *file.Hosts    // petnames
	Key   *identity.Key  // the node's
	Alone string         // what Unreachable said
	close []func() error // in the order in which they are to be closed
}

// Open makes the node of the settings and of what is in the state directory. adjust may set fields of the mesh node
// before it starts; if it sets Names that are a [Chooser], those have a say in Bootstrap. The node does not yet listen on a
// service.
func Open(ctx context.Context, s *Settings, state *program.State, log *slog.Logger, adjust func(*mesh.Node)) (_ *Node, err error) {
	n := &Node{Node: &mesh.Node{
		ListenAddrs: config.Addrs(s.Listen), Operator: s.Operator, Network: s.Network, Name: s.Name,
		Reservations: s.Reservations, Logger: log,
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.Key, err = Key(s, state, log); err != nil {
		return nil, err
	}
	n.Identity = n.Key
	if n.NetworkKey, err = NetworkKey(s, state); err != nil {
		return nil, err
	}
	n.Hosts = Hosts(s, state)
	if s.Hosts != "" { // else it need not be there
		n.Hosts.Logger = log
	}
	n.Names = n.Hosts
	var late []string
	if n.Bootstrap, late, err = firstAddrs(ctx, s, log); err != nil {
		return nil, err
	}
	if n.Alone = Unreachable(s, state); n.Alone != "" {
		log.Warn(n.Alone)
	}
	for _, p := range n.Hosts.Peers() { // some may be relays; all are tried as such
		n.Bootstrap = append(n.Bootstrap, n.Hosts.Addrs(p.ID)...)
	}
	if err := n.directories(ctx, s, state, log); err != nil {
		return nil, err
	}
	if adjust != nil {
		adjust(n.Node)
	}
	n.Bootstrap = chosen(n.Names, n.Bootstrap)
	book := &lateBook{Resolver: n.Names}
	if len(late) > 0 {
		n.Names = book
	}
	n.close = append([]func() error{n.Node.Close}, n.close...)
	if err := n.Start(ctx); err != nil {
		return nil, program.Listening("node", err)
	}
	if n.DHT != nil {
		if err := n.DHT.Start(network{n.Node, book}); err != nil {
			return nil, err
		}
	}
	if len(late) > 0 {
		n.close = append([]func() error{book.ask(late, log)}, n.close...)
	}
	return n, nil
}

// savedName is the file in the state directory with the nodes of the DHT that were known.
const savedName = "dht"

// Hosts is the hosts file of the settings: for what needs no node.
func Hosts(s *Settings, state *program.State) *file.Hosts {
	return &file.Hosts{Path: cmp.Or(s.Hosts, state.Path("hosts"))}
}

// directories are those that the settings name.
func (n *Node) directories(ctx context.Context, s *Settings, state *program.State, log *slog.Logger) error {
	var all []registry.Directory
	if s.DHT {
		cfg := dht.Config{Client: len(s.Listen) == 0, Saved: state.Path(savedName), Private: n.NetworkKey != nil, Logger: log}
		n.DHT = dht.New(cfg)
		n.close = append(n.close, n.DHT.Close)
		all = append(all, n.DHT)
		if !cfg.Client {
			n.Capabilities = append(n.Capabilities, registry.CapDHTServer)
		}
	}
	token, err := SecretOf("node.registry-token-file", s.TokenFile)
	if err != nil {
		return err
	}
	for _, u := range s.Registries {
		all = append(all, &httpregistry.Client{URL: u, Token: httpregistry.Token(token)})
	}
	if s.LAN {
		lan := &mdns.Directory{NetworkKey: n.NetworkKey, Logger: log}
		if err := lan.Start(ctx); err != nil {
			return fmt.Errorf("local network: %w", err)
		}
		n.close = append(n.close, lan.Close)
		all = append(all, lan)
	}
	switch len(all) {
	case 0:
	case 1:
		n.Directory = all[0]
	default:
		d := &multi.Directory{Directories: all}
		n.close = append([]func() error{d.Close}, n.close...)
		n.Directory = d
	}
	return nil
}

// Close closes the node and then what it needed.
func (n *Node) Close() error {
	var errs []error
	for _, f := range n.close {
		errs = append(errs, f())
	}
	n.close = nil
	return errors.Join(errs...)
}
