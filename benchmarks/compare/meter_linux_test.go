package main

import (
	"testing"
	"time"
)

func TestMachineTime(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"cpu  100 20 3 9999 55 7 8 4 1000 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n": 1270 * time.Millisecond,
		"cpu  1 2 3\n":                           0,
		"intr 100 20 3 9999 55 7 8 4 1000 0\n":   0,
		"cpu  a 20 3 9999 55 7 8 4 1000 0\ncpu0": 0,
		"":                                       0,
	} {
		if got := parseMachineTime([]byte(stat)); got != want {
			t.Errorf("%q: %v, want %v", stat, got, want)
		}
	}
}
