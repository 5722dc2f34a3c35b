//go:build !linux

package main

import "time"

// Elsewhere than on Linux the costs of a sample are not known, and none is
// dropped.

func ownTime() time.Duration     { return 0 }
func machineTime() time.Duration { return 0 }
func writeCalls() float64        { return 0 }
func cpuModel() string           { return "" }
func kernel() string             { return "" }
