// Package splitmesh is the root of a library for private networks without a
// centre: ordinary [net.Conn] and [net.Listener] values whose other end is a
// key, not an IP address, carried directly or over several relays of which none
// needs to carry the whole. It holds no code. It is the map of the packages that do.
//
// To use the library, read package mesh: its Dial and Listen are all that most
// programs need. To understand it, read the package comments in this order,
// each of which leans only on those before it:
//
//   - identity: who a peer is. Ed25519 keys, their text forms, the keystore.
//   - frame: what a path carries. The wire codec of sealed frames.
//   - splitter: how bytes are divided and which path is next. Purposes, schemes,
//     schedulers and reassembly, without I/O; below it padding.
//   - transport: how bytes reach a neighbour. The seam, and below it websocket,
//     tcp and memory, and link, which emulates what goes wrong on the way.
//   - registry: where a peer is and whether it may join. The signed record, the
//     seams, and below them the directories.
//   - blob: files in parts that prove themselves, whatever carried them.
//   - mesh: the node, which composes all of these. Dial, Listen, relaying.
//   - dht: a directory that the nodes keep for one another.
//   - metrics, a module of its own: a node, shown to Prometheus.
//
// Between them, internal to the module: handshake proves who is at the other
// end of a path and agrees on its keys, which rekey replaces; session makes one
// conversation out of any number of paths; mux makes streams out of a lane of it; kad is
// what the DHT decides without a network; atomicfile writes files whole; buf pools the
// buffers that they share; deps holds no code, but the tests that keep all of
// these apart.
//
// The seams are meant to be implemented by others. Each ships a suite of tests
// that its implementations must pass: transport/transporttest and
// registry/registrytest.
//
// The wire protocol is docs/SPEC.md, complete enough to reimplement from, with
// docs/BLOB.md for blobs; what it protects against, and what not, is docs/THREATS.md; why it is shaped this
// way is docs/adr.
package splitmesh
