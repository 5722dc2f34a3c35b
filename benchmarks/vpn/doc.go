// Command vpn measures a TCP connection through meshvpn's network device against one through wireguard-go's, in one run
// and in turn, on the same cables between network namespaces:
//
//	a ═══════ b     direct: both tunnels between the ends of one cable
//	a ═ r ═ b       relayed: a and b reach r alone, where a relay carries what meshvpn seals for b, and where a third
//	                wireguard-go opens what a sends and seals it for b
//	                routed (if asked for): meshvpn the same, but r is a router for wireguard-go, so that a reaches b
//
// Each program's ends are processes of their own, and both devices have the same MTU. It needs Linux and root.
//
//	go build -o /tmp/vpn ./benchmarks/vpn && sudo /tmp/vpn
package main
