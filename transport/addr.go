package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
)

// MaxAddr is the longest text of an address, in bytes, that [Parse] reads and
// that the result's String returns.
const MaxAddr = 512

// An AddrError says which part of an address is wrong, and how.
type AddrError struct {
	Addr string // the address as given, cut after 80 bytes
	Part string // the component that is wrong, "" when it is the whole
	Err  error  // what is wrong with it
}

func (e *AddrError) Error() string {
	if e.Part == "" {
		return fmt.Sprintf("address %q: %v", e.Addr, e.Err)
	}
	return fmt.Sprintf("address %q: at %q: %v", e.Addr, e.Part, e.Err)
}

// Unwrap returns what is wrong.
func (e *AddrError) Unwrap() error { return e.Err }

func addrError(addr, part string, err error) error {
	return &AddrError{Addr: clip(addr), Part: clip(part), Err: err}
}

// clip keeps a hostile text from filling a log.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// What [Parse] and the helpers below find wrong. They come wrapped in an [*AddrError].
var (
	errTooLong   = fmt.Errorf("longer than %d bytes", MaxAddr)
	errEmpty     = errors.New("empty; an address looks like /ip4/192.0.2.1/tcp/443/tls/ws")
	errSlash     = errors.New("does not begin with a slash; an address looks like /dns/example.org/tcp/443/tls/ws")
	errCharacter = errors.New("holds a character that is not printable ASCII; write an international name in its xn-- form")
	errProtocol  = errors.New("unknown protocol")
	errNoValue   = errors.New("the value after the protocol is missing")
	errHost      = errors.New("not a host name: labels of letters, digits, '-' and '_', up to 63 bytes each and 253 in all")
	errCircuit   = errors.New("a circuit is /…/p2p/RELAY/p2p-circuit/p2p/TARGET")
	errNoPort    = errors.New("expected /ip4, /ip6, /dns, /dns4 or /dns6, then /tcp/PORT")
)

// Parse reads the text of an address. After /p2p/ it takes an identity in either
// spelling; the result holds the libp2p one. What String then returns parses to
// the same address. Errors are [*AddrError].
//
// A text has many spellings (of an IP address, an ID, an escaped path): what
// must be canonical, because it is signed or compared, is the address's Bytes.
func Parse(s string) (multiaddr.Multiaddr, error) {
	if len(s) > MaxAddr {
		return nil, addrError(s, "", errTooLong)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return nil, addrError(s, s[i:], errCharacter)
	}
	rest, ok := strings.CutPrefix(s, "/")
	if !ok && s != "" {
		return nil, addrError(s, "", errSlash)
	}
	if rest == "" {
		return nil, addrError(s, "", errEmpty)
	}
	var addr multiaddr.Multiaddr
	for rest != "" { // so that one slash at the end does no harm
		c, after, err := nextComponent(rest)
		if err != nil {
			return nil, addrError(s, rest, err)
		}
		addr, rest = append(addr, *c), after
	}
	// Escaping may lengthen: what we print must be what we read.
	if len(addr.String()) > MaxAddr {
		return nil, addrError(s, "", errTooLong)
	}
	return addr, nil
}

// nextComponent reads one component from the front of s, which has no slash
// before it, and returns what follows its last slash.
func nextComponent(s string) (c *multiaddr.Component, rest string, err error) {
	name, rest, _ := strings.Cut(s, "/")
	p := multiaddr.ProtocolWithName(name)
	if p.Code == 0 {
		return nil, "", fmt.Errorf("%w %q", errProtocol, clip(name))
	}
	value := ""
	switch {
	case p.Size == 0:
	case rest == "":
		return nil, "", errNoValue
	case p.Path: // takes all that follows
		value, rest = "/"+rest, ""
	default:
		value, rest, _ = strings.Cut(rest, "/")
	}
	if value, err = checkValue(p.Code, value); err != nil {
		return nil, "", err
	}
	if c, err = multiaddr.NewComponent(p.Name, value); err != nil {
		return nil, "", err
	}
	return c, rest, nil
}

// checkValue is stricter than the multiaddr package where a name ends up in a
// dialler, a URL or a log.
func checkValue(code int, value string) (string, error) {
	switch code {
	case multiaddr.P_P2P:
		id, err := identity.ParseID(value)
		if err != nil {
			return "", err
		}
		return id.PeerID(), nil
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6, multiaddr.P_DNSADDR, multiaddr.P_SNI:
		if !validHost(value) {
			return "", errHost
		}
	case multiaddr.P_TCP, multiaddr.P_UDP:
		if _, err := strconv.ParseUint(value, 10, 16); err != nil {
			return "", fmt.Errorf("%q is no port: 0 to 65535", clip(value))
		}
	}
	return value, nil
}

func validHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
			if !alnum && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// SplitPeer takes a trailing /p2p/ID off addr. ok is false, and base is addr,
// when there is none. Base is empty when addr is the ID and nothing else.
func SplitPeer(addr multiaddr.Multiaddr) (base multiaddr.Multiaddr, id identity.ID, ok bool, err error) {
	if len(addr) == 0 || addr[len(addr)-1].Code() != multiaddr.P_P2P {
		return addr, identity.ID{}, false, nil
	}
	last := &addr[len(addr)-1]
	id, err = identity.ParseID(last.Value())
	if err != nil {
		return nil, identity.ID{}, false, addrError(addr.String(), last.String(), err)
	}
	return slices.Clip(addr[:len(addr)-1]), id, true, nil
}

// WithPeer returns base with /p2p/id after it. It leaves base as it is.
func WithPeer(base multiaddr.Multiaddr, id identity.ID) multiaddr.Multiaddr {
	c, err := multiaddr.NewComponent("p2p", id.PeerID())
	if err != nil { // only of the zero ID, which names nobody
		panic("transport: WithPeer: " + err.Error())
	}
	return append(slices.Clip(base), *c)
}

// Circuit returns the address of target through a relay, relay being the
// relay's own address and ending in its /p2p/ID: relay/p2p-circuit/p2p/TARGET.
func Circuit(relay multiaddr.Multiaddr, target identity.ID) (multiaddr.Multiaddr, error) {
	if _, _, ok, err := SplitPeer(relay); err != nil {
		return nil, err
	} else if !ok {
		return nil, addrError(relay.String(), "", errCircuit)
	}
	c, err := multiaddr.NewComponent("p2p-circuit", "")
	if err != nil {
		panic("transport: Circuit: " + err.Error())
	}
	return WithPeer(append(slices.Clip(relay), *c), target), nil
}

// SplitCircuit is the reverse of [Circuit]: the address of the last relay,
// ending in its /p2p/ID, and whom it leads to. ok is false when addr goes
// through no relay. A relay that is itself behind one is again a circuit.
func SplitCircuit(addr multiaddr.Multiaddr) (relay multiaddr.Multiaddr, target identity.ID, ok bool, err error) {
	last := -1
	for i := range addr {
		if addr[i].Code() == multiaddr.P_CIRCUIT {
			last = i
		}
	}
	if last < 0 {
		return nil, identity.ID{}, false, nil
	}
	relay = slices.Clip(addr[:last])
	if _, _, ok, err = SplitPeer(relay); err != nil {
		return nil, identity.ID{}, false, err
	}
	base, target, named, err := SplitPeer(addr)
	if err != nil {
		return nil, identity.ID{}, false, err
	}
	if !ok || !named || len(base) != last+1 {
		return nil, identity.ID{}, false, addrError(addr.String(), addr[last:].String(), errCircuit)
	}
	return relay, target, true, nil
}

// NetworkGroup names the network that addr is in, so that paths can be chosen
// over networks that are unlikely to share an operator: the /16 of an IPv4
// address, the /32 of an IPv6 address, the last two labels of a DNS name, "" of
// anything else. A circuit is in its first relay's network.
func NetworkGroup(addr multiaddr.Multiaddr) string {
	if len(addr) == 0 {
		return ""
	}
	switch c := &addr[0]; c.Code() {
	case multiaddr.P_IP4, multiaddr.P_IP6:
		ip, ok := netip.AddrFromSlice(c.RawValue())
		if !ok {
			return ""
		}
		bits := 32
		if ip = ip.Unmap(); ip.Is4() {
			bits = 16
		}
		return netip.PrefixFrom(ip, bits).Masked().String()
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6, multiaddr.P_DNSADDR:
		labels := strings.Split(strings.ToLower(c.Value()), ".")
		return strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	return ""
}

// HostPort reads the host and the TCP port at the front of addr in the form that
// [net.Dial] and [net.Listen] take, and returns what follows them. network is
// "tcp4" or "tcp6" where addr says so, else "tcp". The error is an [*AddrError].
func HostPort(addr multiaddr.Multiaddr) (network, hostport string, rest multiaddr.Multiaddr, err error) {
	if len(addr) < 2 || addr[1].Code() != multiaddr.P_TCP {
		return "", "", nil, addrError(addr.String(), "", errNoPort)
	}
	host := addr[0].Value()
	switch addr[0].Code() {
	case multiaddr.P_IP4:
		network = "tcp4"
	case multiaddr.P_IP6:
		network = "tcp6"
		// The multiaddr of an IPv4-mapped address is written as such, but it is dialled as what it maps.
		if ip, ok := netip.AddrFromSlice(addr[0].RawValue()); ok && ip.Is4In6() {
			network, host = "tcp4", ip.Unmap().String()
		}
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
		network = "tcp" + strings.TrimPrefix(addr[0].Protocol().Name, "dns")
		if !validHost(host) { // an address may come from bytes, not from Parse
			return "", "", nil, addrError(addr.String(), addr[0].String(), errHost)
		}
	default:
		return "", "", nil, addrError(addr.String(), addr[0].String(), errNoPort)
	}
	return network, net.JoinHostPort(host, addr[1].Value()), slices.Clip(addr[2:]), nil
}

// FromTCP is the address /ip4 or /ip6, then /tcp, of a socket. A zone is left out.
func FromTCP(a netip.AddrPort) multiaddr.Multiaddr {
	ip, proto := a.Addr().Unmap().WithZone(""), "ip6"
	if ip.Is4() {
		proto = "ip4"
	}
	m, err := multiaddr.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/%d", proto, ip, a.Port()))
	if err != nil { // only of the zero AddrPort
		panic("transport: FromTCP: " + err.Error())
	}
	return m
}
