// Package benchmarks measures splitmesh against what else could carry the same
// bytes on the same machine, in the same run.
//
// A figure in MB/s says more about the machine than about the code, so every
// comparison here reports a ratio too: ours over theirs, both measured a moment
// apart. From the root of the repository, make bench compares whole systems
// (package compare), and make microbench runs the benchmarks of single parts.
//
// The package is a module of its own: the systems compared with are
// dependencies that no importer of the library should inherit.
package benchmarks
