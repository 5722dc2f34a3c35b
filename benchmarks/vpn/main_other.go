//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "vpn: it measures network devices of Linux")
	os.Exit(1)
}
