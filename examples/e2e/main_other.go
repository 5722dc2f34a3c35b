//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "e2e: it needs the network namespaces of Linux")
	os.Exit(1)
}
