//go:build !race

package stall

const stackFactor = 1
