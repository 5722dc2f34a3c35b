package frame

import (
	"fmt"
	"testing"
)

func BenchmarkSeal(b *testing.B) {
	for _, suite := range suites {
		for _, n := range []int{64, 32 << 10} {
			b.Run(fmt.Sprintf("%v/%d", suite, n), func(b *testing.B) {
				s, _ := pair(b, suite, 0)
				array := make([]byte, HeaderSize+n+TagSize)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					s.key.left = maxFrames
					if _, err := s.Seal(array[:0], array[HeaderSize:][:n]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkOpen includes Size, and a copy of the frame, which Open overwrites.
func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites {
		for _, n := range []int{64, 32 << 10} {
			b.Run(fmt.Sprintf("%v/%d", suite, n), func(b *testing.B) {
				s, o := pair(b, suite, 0)
				wire := seal(b, s, make([]byte, n))
				array := make([]byte, len(wire))
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					copy(array, wire)
					o.next, o.key.left = 0, maxFrames
					if _, err := o.Size(array[:Peek]); err != nil {
						b.Fatal(err)
					}
					if _, err := o.Open(array); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
