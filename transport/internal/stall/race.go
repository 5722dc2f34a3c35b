//go:build race

package stall

// The race detector's instrumented functions need about twice the stack.
const stackFactor = 2
