// Package file keeps what a node knows of its peers in files: [Hosts] is a text file that a person writes, with addresses
// and petnames, and [Directory] is a directory of signed records, one in each file, that outlives the process.
//
// The smallest program:
//
//	hosts := &file.Hosts{Path: "/etc/splitmesh/hosts"}
//	directory := &file.Directory{Path: "/var/lib/app/records"}
//	defer directory.Close()
//	node := &mesh.Node{Directory: directory, Names: hosts} // NAME.mesh, and the addresses of peers, as the file is edited
//
// The two are apart because a record is what a peer says of itself and has signed. What a hosts file says is its
// writer's word: an address to try, and a name that means something here and nowhere else.
//
// # The hosts file
//
// Each line is about one peer. It begins with the peer's ID, in either spelling, or with an address of it, a multiaddr
// that ends in /p2p/ID; petnames follow, separated by spaces or tabs. A peer may have any number of lines. From a # on
// a line is a comment.
//
//	# the office
//	/dns4/gate.example.com/tcp/443/wss/p2p/12D3KooW…  gate
//	/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…                    # the same, without its name
//	12D3KooW…  ann laptop                                     # names only
//
// A petname is a [registry.ValidName], and of one peer. A file with an error is not used at all: a name that a person
// mistyped must not lead to another peer.
//
// What the package promises:
//
//   - [Hosts] follows the file while it is in use. As long as the file is missing or has an error, what it said before
//     counts; [Hosts.Err] and the log say what is wrong, and in which line.
//   - [Directory] promises what registry/memory does, over restarts and crashes too: no peer can be rolled back while an
//     older record could still be valid, a revocation of a peer that it knew is kept for good, and a live record is never
//     pushed out by another peer's. What Publish has acknowledged is on the disk.
//   - A record's file that was damaged is an error when its peer is looked up, and never a wrong answer. It gives way to a
//     record that was made after it was written, or to a revocation, and to nothing that could be older than what it held.
package file
