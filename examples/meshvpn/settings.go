package main

import (
	"fmt"
	"regexp"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/tun"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// settings are all that can be set.
type settings struct {
	Node     node.Settings `name:"node"`
	TUN      tunSettings   `name:"tun"`
	Rules    []acl.Rule    `name:"rules" help:"what peers may send here, the first that fits decides: allow ann tcp 22, allow * icmp, deny bob; what none allows is denied"`
	Networks []acl.Grant   `name:"networks" help:"networks beyond the mesh: 192.0.2.0/24 via gate, and what this node offers: 192.0.2.0/24 to ann"`
	DNS      dnsMode       `name:"dns" help:"auto: the system asks this node for NAME.mesh; serve: only who asks at this node's addresses does; off: there are no names"`
	Relays   relaySettings `name:"relays"`
	Log      program.Log   `name:"log"`
}

type tunSettings struct {
	Name string `name:"name" help:"of the network device"`
	MTU  int    `name:"mtu" help:"of the network device"`
	IPv4 bool   `name:"ipv4" help:"whether there are IPv4 addresses, of 100.64.0.0/10, beside those of IPv6"`
}

type relaySettings struct {
	Only  bool `name:"only" help:"dial no peer directly, so that it doesn't learn this node's address; the nodes of the DHT still are"`
	Paths int  `name:"paths" help:"over how many relays to send at once where there is no direct path; 0 is 3"`
}

// dialer dials peers so. Who wants one relay is not to wait for a second.
func (s relaySettings) dialer(n *mesh.Node) *mesh.Dialer {
	d := &mesh.Dialer{Node: n, RelayedOnly: s.Only, Paths: s.Paths}
	if s.Paths == 1 {
		d.Split = splitter.Policy{MinPaths: 1}
	}
	return d
}

// A dnsMode says how names are answered for.
type dnsMode string

const (
	dnsAuto  dnsMode = "auto"
	dnsServe dnsMode = "serve"
	dnsOff   dnsMode = "off"
)

// UnmarshalText reads a mode.
func (m *dnsMode) UnmarshalText(b []byte) error {
	switch x := dnsMode(b); x {
	case dnsAuto, dnsServe, dnsOff:
		*m = x
		return nil
	}
	return fmt.Errorf("%.40q is none of: auto, serve, off", b)
}

// MarshalText writes it.
func (m dnsMode) MarshalText() ([]byte, error) { return []byte(m), nil }

func defaults() *settings {
	return &settings{Node: node.Default(), TUN: tunSettings{Name: "mesh0", MTU: 1420, IPv4: true}, DNS: dnsAuto, Log: program.DefaultLog()}
}

var deviceName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,15}$`)

// Validate implements config.Validator.
func (s *tunSettings) Validate() (out []config.Problem) {
	if !deviceName.MatchString(s.Name) {
		out = append(out, config.Problem{Path: "name", Text: fmt.Sprintf("%.40q is no name of a network device: 1 to 15 letters, digits, dots, hyphens and underscores", s.Name)})
	}
	if s.MTU < tun.MinMTU || s.MTU > tun.MaxMTU {
		out = append(out, config.Problem{Path: "mtu", Text: fmt.Sprintf("%d is not between %d and %d", s.MTU, tun.MinMTU, tun.MaxMTU)})
	}
	return out
}

// Validate implements config.Validator.
func (s *relaySettings) Validate() (out []config.Problem) {
	if s.Paths < 0 || s.Paths > 8 {
		out = append(out, config.Problem{Path: "paths", Text: fmt.Sprintf("%d is not between 0 and 8", s.Paths)})
	}
	return out
}
