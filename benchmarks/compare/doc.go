// Command compare measures splitmesh beside what else could carry the same
// bytes: TLS, WebSockets, go-libp2p and WireGuard, on this machine and in turn.
//
//	go run ./compare          # everything; half an hour
//	go run ./compare -quick   # what the bars need, in a minute
//	go run ./compare -only 'bulk-.*/(tls|splitmesh-ws)$'
//
// The unit is a sample: one case (one stream dialler to listener, say) of one
// system, in a process of its own that holds both ends and all relays, over
// loopback sockets, on a connection that is new and warmed up. Samples are taken
// in rounds, in each of which every case visits all its systems, there in one
// order and in the next in the other, so that a machine that grows slower does so
// for all. The figures shown are medians.
//
// A clock stops when the receiver has every byte, which it checks. A sample during
// which other processes used more than a tenth of the machine is taken anew; when
// patience ends it stays, and counts only where there is no other: then the line says
// that it is noisy.
//
// Read the files in this order: system.go, what is compared, and beside it a
// file for each kind; case.go, what is measured, and beside it bulk.go, connect.go
// and idle.go; sample.go, the process of a sample; run.go, the rounds; bars.go,
// what is demanded; report.go.
package main
