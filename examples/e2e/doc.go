// E2e runs the programs as people run them, and looks whether they do what they promise: processes of meshrelay and
// meshvpn in network namespaces, joined by cables so that peers reach relays and nobody else, used by iperf3, ssh, scp and
// curl, and killed in the midst of it.
//
//	make e2e                                        # as root, on Linux
//	go run ./examples/e2e -only 'vpn|direct' -scp-bytes 64MiB
//	go run ./examples/e2e -help                     # the scenarios, and what they take
//
// It prints a line for each figure with the bar that it has to pass, and its exit status is 1 if one does not. Read
// main_linux.go, the scenarios; isolate_linux.go, why nothing is left behind; machine_linux.go and world_linux.go, what
// they run in. What is measured by itself is taken from where it is: relayload, the benchmarks, the tests of meshchat and
// of doctor.
package main
