package splitter

import "math/bits"

// Padme returns the length to which n bytes should be padded so that the length
// tells little of what they are: n rounded up to a number whose mantissa is no
// longer than its exponent. Lengths up to n fall on O(log log n) values in each
// doubling, and none grows by more than 12 %, less the larger it is. Padme(n)
// is n for n < 9, and never less than n; where the rounded length would not fit
// in 64 bits it is n.
//
// It is Padmé of Nikitin et al., "Reducing Metadata Leakage from Encrypted Files
// and Communication with PURBs", PoPETs 2019, section 4.
func Padme(n uint64) uint64 {
	if n < 2 {
		return n
	}
	exponent := bits.Len64(n) - 1        // n is 1.m × 2^exponent
	mantissa := bits.Len(uint(exponent)) // bits that exponent takes, and m may
	low := uint64(1)<<(exponent-mantissa) - 1
	if exponent < mantissa {
		low = 0
	}
	if n > ^low {
		return n
	}
	return (n + low) &^ low
}
