// Command vpn measures a TCP connection through meshvpn's network device against one through wireguard-go's, in one run
// and in turn, on the same cables between network namespaces:
//
//	a ═══════ b     direct: both tunnels between the ends of one cable
//	a ═ r ═ b       relayed: meshvpn over a relay in r that is all it reaches; wireguard-go with r as its router
//
// Each program is two processes of its own, and both devices have the same MTU. It needs Linux and root.
//
//	go build -o /tmp/vpn ./benchmarks/vpn && sudo /tmp/vpn
package main
