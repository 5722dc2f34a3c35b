package splitter

import "fmt"

// erasure is a generalised Reed–Solomon code over GF(2^8) (Reed and Solomon,
// 1960; MacWilliams and Sloane, §10.8), systematic: a block is cut into K equal
// data shards, the last filled up with zeros, and each byte position of the
// shards is a codeword. Shard i at that position is v[i]·f(i), f the polynomial
// of degree below K for which that holds at the data shards; so any K shards
// determine f, and f the rest.
//
// The multipliers v are such that the first parity shard is the plain XOR of the
// data shards, and that every parity shard has the coefficient 1 for data shard
// 0. So one shard lost, the common case, costs XORs alone, which the standard
// library does in vector instructions; and K = 1 is replication.
type erasure struct {
	k, n   int
	points [MaxMinPaths]byte              // of shard i: i
	v      [MaxMinPaths]byte              // never 0
	parity [MaxMinPaths][MaxMinPaths]byte // [p][j]: of data shard j in parity shard K+p
}

// Erasure returns the Reed–Solomon code K of N: any K of the N shards, each one
// K-th of the block rounded up, give the block. Shards 0 to K−1 are the block
// itself, cut up: it keeps nothing secret. 1 ≤ K ≤ N ≤ MaxMinPaths, or the error
// wraps ErrPolicy.
func Erasure(k, n int) (Scheme, error) {
	e, err := newErasure(k, n)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Replicate returns the scheme in which each of n shards is the whole block, the
// code 1 of n. 1 ≤ n ≤ MaxMinPaths, or the error wraps ErrPolicy.
func Replicate(n int) (Scheme, error) { return Erasure(1, n) }

func newErasure(k, n int) (*erasure, error) {
	if k < 1 || n < k || n > MaxMinPaths {
		return nil, fmt.Errorf("%w: K of N is %d of %d, want 1 ≤ K ≤ N ≤ %d", ErrPolicy, k, n, MaxMinPaths)
	}
	e := &erasure{k: k, n: n}
	for i := range n {
		e.points[i], e.v[i] = byte(i), 1
	}
	if k < n {
		gfLagrange(e.v[:k], e.points[:k], e.points[k])
	}
	for p := range n - k {
		row := e.parity[p][:k]
		gfLagrange(row, e.points[:k], e.points[k+p])
		e.v[k+p] = gfMul(e.v[0], gfInv(row[0]))
		e.weigh(row, e.points[:k], k+p)
	}
	return e, nil
}

// weigh turns Lagrange coefficients, those of f at shard's point from its values
// at points, into those of the shard from the shards at points.
func (e *erasure) weigh(coefs, points []byte, shard int) {
	for j, i := range points {
		coefs[j] = gfMul(gfMul(coefs[j], e.v[shard]), gfInv(e.v[i]))
	}
}

// K implements Scheme.
func (e *erasure) K() int { return e.k }

// N implements Scheme.
func (e *erasure) N() int { return e.n }

// ShardSize implements Scheme.
func (e *erasure) ShardSize(size int) int { return (size + e.k - 1) / e.k }

// Split implements Scheme.
func (e *erasure) Split(shards [][]byte, block []byte) error {
	if err := checkSplit(e, shards, block); err != nil {
		return err
	}
	e.split(shards, block)
	return nil
}

func (e *erasure) split(shards [][]byte, block []byte) {
	for _, shard := range shards[:e.k] {
		n := copy(shard, block)
		clear(shard[n:])
		block = block[n:]
	}
	for p, shard := range shards[e.k:] {
		combine(shard, e.parity[p][:e.k], shards[:e.k], 0)
	}
}

// combine sets dst to the sum of coefs[j] times the bytes of shards[j] from the
// given one on.
func combine(dst, coefs []byte, shards [][]byte, from int) {
	for j, shard := range shards {
		src := shard[from : from+len(dst)]
		switch {
		case j == 0 && coefs[j] == 1:
			copy(dst, src)
			continue
		case j == 0:
			clear(dst)
		}
		gfMulAdd(dst, src, coefs[j])
	}
}

// Join implements Scheme.
func (e *erasure) Join(dst []byte, size int, shards [][]byte) ([]byte, error) {
	if err := checkJoin(e, size, shards); err != nil {
		return nil, err
	}
	return e.join(dst, size, shards)
}

func (e *erasure) join(dst []byte, size int, shards [][]byte) ([]byte, error) {
	var (
		points [MaxMinPaths]byte   // of the first K shards that are there,
		have   [MaxMinPaths][]byte // and they
		coefs  [MaxMinPaths]byte
		pad    [MaxMinPaths]byte // there are fewer than K bytes of padding
	)
	found := 0
	for i, shard := range shards {
		if shard != nil && found < e.k {
			points[found], have[found] = e.points[i], shard
			found++
		}
	}
	each := e.ShardSize(size)
	at := len(dst)
	dst = grow(dst, size)
	for i := range e.k {
		out := dst[at : at+min(each, len(dst)-at)]
		at += len(out)
		zeros := pad[:each-len(out)]
		if shards[i] != nil {
			copy(zeros, shards[i][copy(out, shards[i]):])
		} else {
			gfLagrange(coefs[:e.k], points[:e.k], e.points[i])
			e.weigh(coefs[:e.k], points[:e.k], i)
			combine(out, coefs[:e.k], have[:e.k], 0)
			combine(zeros, coefs[:e.k], have[:e.k], len(out))
		}
		for _, b := range zeros {
			if b != 0 {
				return nil, fmt.Errorf("%w: data shard %d of a block of %d bytes is not filled up with zeros", ErrShard, i, size)
			}
		}
	}
	return dst, nil
}

// grow returns dst with n more bytes.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, len(dst)+n), dst...)
	}
	return dst[:len(dst)+n]
}
