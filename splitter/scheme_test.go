package splitter_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/splitmesh/splitmesh/splitter"
)

func erasure(t testing.TB, k, n int) splitter.Scheme {
	t.Helper()
	s, err := splitter.Erasure(k, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func secrecy(t testing.TB, k, n int, c splitter.Cipher) splitter.Scheme {
	t.Helper()
	s, err := splitter.NewSecrecy(k, n, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemes calls f with every scheme that there is.
func schemes(t *testing.T, f func(t *testing.T, s splitter.Scheme)) {
	for n := 1; n <= splitter.MaxMinPaths; n++ {
		for k := 1; k <= n; k++ {
			t.Run(fmt.Sprintf("erasure %d of %d", k, n), func(t *testing.T) { f(t, erasure(t, k, n)) })
			if k < 2 {
				continue
			}
			for _, c := range []splitter.Cipher{splitter.ChaCha20Poly1305, splitter.AES256GCM} {
				t.Run(fmt.Sprintf("secrecy %d of %d, %v", k, n, c), func(t *testing.T) { f(t, secrecy(t, k, n, c)) })
			}
		}
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}

// split returns the shards of block, whose memory held other bytes before.
func split(t testing.TB, s splitter.Scheme, block []byte) [][]byte {
	t.Helper()
	shards := make([][]byte, s.N())
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{0xa5}, s.ShardSize(len(block)))
	}
	before := bytes.Clone(block)
	if err := s.Split(shards, block); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(block, before) {
		t.Fatal("Split changed the block")
	}
	return shards
}

// subset returns the shards whose bits are in set, and nil for the others.
func subset(shards [][]byte, set int) [][]byte {
	some := make([][]byte, len(shards))
	for i := range shards {
		if set>>i&1 == 1 {
			some[i] = shards[i]
		}
	}
	return some
}

func TestAnyKOfNShardsSuffice(t *testing.T) {
	schemes(t, func(t *testing.T, s splitter.Scheme) {
		for _, size := range []int{1, 2, 3, 7, 8, 9, 61, 64, 1001} {
			block := random(size)
			shards := split(t, s, block)
			for set := range 1 << s.N() {
				prefix := []byte("kept")
				got, err := s.Join(prefix, size, subset(shards, set))
				if bits.OnesCount(uint(set)) < s.K() {
					if !errors.Is(err, splitter.ErrTooFewShards) {
						t.Fatalf("size %d, shards %08b: %v, want ErrTooFewShards", size, set, err)
					}
				} else if err != nil || string(got[:4]) != "kept" || !bytes.Equal(got[4:], block) {
					t.Fatalf("size %d, shards %08b: wrong block, %v", size, set, err)
				}
			}
		}
	})
}

func TestTheLargestBlock(t *testing.T) {
	schemes(t, func(t *testing.T, s splitter.Scheme) {
		block := random(splitter.MaxBlock)
		shards := split(t, s, block)
		last := 1<<s.N() - 1<<(s.N()-s.K())
		got, err := s.Join(nil, len(block), subset(shards, last))
		if err != nil || !bytes.Equal(got, block) {
			t.Fatal("wrong block", err)
		}
	})
}

func TestShardSizes(t *testing.T) {
	for _, tt := range []struct {
		s          splitter.Scheme
		size, want int
	}{
		{erasure(t, 1, 3), 1, 1},
		{erasure(t, 1, 3), 1000, 1000},
		{erasure(t, 2, 3), 1, 1},
		{erasure(t, 3, 4), 1000, 334},
		{secrecy(t, 2, 3, splitter.AES256GCM), 1, 32 + 9},
		{secrecy(t, 3, 4, splitter.AES256GCM), 1000, 32 + 339},
	} {
		if got := tt.s.ShardSize(tt.size); got != tt.want {
			t.Errorf("a shard of %d bytes, %d of %d: %d, want %d", tt.size, tt.s.K(), tt.s.N(), got, tt.want)
		}
	}
}

// TestErasureIsSystematic fixes the layout on the wire: the block, filled up with
// zeros, then the XOR of its parts, then their sum weighed by 1 and others.
func TestErasureIsSystematic(t *testing.T) {
	shards := split(t, erasure(t, 3, 5), []byte{1, 2, 3, 4, 5, 6, 7})
	want := [][]byte{{1, 2, 3}, {4, 5, 6}, {7, 0, 0}, {1 ^ 4 ^ 7, 2 ^ 5, 3 ^ 6}, {0x92, 0xf1, 0xa1}}
	for i := range want {
		if !bytes.Equal(shards[i], want[i]) {
			t.Errorf("shard %d is %x, want %x", i, shards[i], want[i])
		}
	}
}

func TestPoliciesHaveSchemes(t *testing.T) {
	for _, tt := range []struct {
		policy splitter.Policy
		k, n   int // 0: none
	}{
		{splitter.Policy{}, 0, 0},
		{splitter.Policy{Purpose: splitter.Unlinkability}, 0, 0},
		{splitter.Policy{Purpose: splitter.Resilience}, 2, 3},
		{splitter.Policy{Purpose: splitter.Resilience, K: 1, N: 4}, 1, 4},
		{splitter.Policy{Purpose: splitter.Secrecy, K: 3, N: 5}, 3, 5},
	} {
		p, err := tt.policy.WithDefaults(true)
		if err != nil {
			t.Fatal(err)
		}
		s, err := splitter.SchemeOf(p, splitter.AES256GCM)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil != (tt.n == 0) || s != nil && (s.K() != tt.k || s.N() != tt.n) {
			t.Errorf("%+v: %v, want %d of %d", p, s, tt.k, tt.n)
		}
	}
}

func TestImpossibleSchemes(t *testing.T) {
	of := func(p splitter.Policy, c splitter.Cipher) error {
		s, err := splitter.SchemeOf(p, c)
		if err != nil && s != nil {
			t.Errorf("%+v: a scheme and an error", p)
		}
		return err
	}
	_, replicate0 := splitter.Replicate(0)
	_, replicate9 := splitter.Replicate(9)
	for name, err := range map[string]error{
		"replicate 0":    replicate0,
		"replicate 9":    replicate9,
		"not filled":     of(splitter.Policy{Purpose: splitter.Resilience}, 0),
		"no purpose":     of(splitter.Policy{}, 0),
		"K above N":      of(splitter.Policy{Purpose: splitter.Resilience, K: 3, N: 2}, 0),
		"N too large":    of(splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 9}, splitter.AES256GCM),
		"no secret of 1": of(splitter.Policy{Purpose: splitter.Secrecy, K: 1, N: 2}, splitter.AES256GCM),
		"no cipher":      of(splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 3}, 0),
		"unknown cipher": of(splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 3}, 3),
	} {
		if !errors.Is(err, splitter.ErrPolicy) {
			t.Errorf("%s: %v, want ErrPolicy", name, err)
		}
	}
}

func TestWrongSizesAreRefused(t *testing.T) {
	for _, s := range []splitter.Scheme{erasure(t, 2, 3), secrecy(t, 2, 3, splitter.AES256GCM)} {
		block := random(10)
		good := split(t, s, block)
		each := s.ShardSize(10)
		for name, shards := range map[string][][]byte{
			"one shard too few":   good[:2],
			"one shard too many":  append(good[:3:3], good[0]),
			"a shorter shard":     {good[0], good[1][:each-1], good[2]},
			"a longer shard":      {good[0], append(good[1][:each:each], 0), good[2]},
			"a shard of no bytes": {good[0], good[1], {}},
		} {
			if err := s.Split(shards, block); !errors.Is(err, splitter.ErrShard) {
				t.Errorf("Split, %s: %v, want ErrShard", name, err)
			}
			if _, err := s.Join(nil, 10, shards); !errors.Is(err, splitter.ErrShard) {
				t.Errorf("Join, %s: %v, want ErrShard", name, err)
			}
		}
		for _, size := range []int{-1, 0, splitter.MaxBlock + 1, 1 << 62} {
			if _, err := s.Join(nil, size, good); !errors.Is(err, splitter.ErrShard) {
				t.Errorf("Join of %d bytes: %v, want ErrShard", size, err)
			}
		}
		for _, block := range [][]byte{nil, make([]byte, splitter.MaxBlock+1)} {
			if err := s.Split(good, block); !errors.Is(err, splitter.ErrShard) {
				t.Errorf("Split of %d bytes: %v, want ErrShard", len(block), err)
			}
		}
	}
}

// TestOnlyWhatSplitMakesIsJoined: the padding is zeros, whichever shards it is
// found from, and the shards of a secret are of one sharing and unchanged.
func TestOnlyWhatSplitMakesIsJoined(t *testing.T) {
	s := erasure(t, 3, 4)
	for _, i := range []int{1, 2, 3} { // 4 bytes are 2, 2 and padding
		shards := split(t, s, random(4))
		shards[i][1] ^= 1
		if i == 1 {
			shards[2] = nil // found from the parity then
		}
		if i == 3 {
			shards[2] = nil
		}
		if _, err := s.Join(nil, 4, shards); !errors.Is(err, splitter.ErrShard) {
			t.Errorf("changed shard %d: %v, want ErrShard", i, err)
		}
	}
	p := secrecy(t, 2, 3, splitter.ChaCha20Poly1305)
	block := random(100)
	one, other := split(t, p, block), split(t, p, block)
	for name, shards := range map[string][][]byte{
		"shards of two sharings":       {one[0], other[1], nil},
		"shares of two keys":           {one[0], append(other[1][:32:32], one[1][32:]...), nil},
		"sealed blocks of two":         {one[0], append(one[1][:32:32], other[1][32:]...), nil},
		"shards in each other's place": {one[1], one[0], nil},
	} {
		if _, err := p.Join(nil, 100, shards); !errors.Is(err, splitter.ErrShard) {
			t.Errorf("%s: %v, want ErrShard", name, err)
		}
	}
}

// TestSharingTwiceHasNothingInCommon looks for runs of 8 bytes that two sharings
// of one block, two shards of one, or a shard and the block have in common: of
// some 10^7 pairs of places, chance gives 10^-12.
func TestSharingTwiceHasNothingInCommon(t *testing.T) {
	for _, c := range []splitter.Cipher{splitter.ChaCha20Poly1305, splitter.AES256GCM} {
		s := secrecy(t, 2, 3, c)
		block := make([]byte, 1024) // the same bytes everywhere would show most
		seen := map[string]bool{string(block[:8]): true}
		for range 2 {
			var fresh []string
			for _, shard := range split(t, s, block) {
				for i := range len(shard) - 7 {
					fresh = append(fresh, string(shard[i:i+8]))
				}
			}
			for _, run := range fresh {
				if seen[run] {
					t.Errorf("%v: %x twice", c, run)
				}
				seen[run] = true
			}
		}
	}
}

// TestJoinMakesNoRoomItHas shows that Join writes where dst has capacity.
func TestJoinMakesNoRoomItHas(t *testing.T) {
	for _, s := range []splitter.Scheme{erasure(t, 3, 5), secrecy(t, 3, 5, splitter.AES256GCM)} {
		shards := split(t, s, random(100))
		shards[0], shards[2] = nil, nil
		dst := make([]byte, 0, 100)
		got, err := s.Join(dst, 100, shards)
		if err != nil || &got[0] != &dst[:1][0] {
			t.Errorf("%T made room of its own (%v)", s, err)
		}
	}
}

// FuzzJoin gives arbitrary shards to each kind of scheme. What an erasure code
// joins from exactly K of them, splits into those K again.
func FuzzJoin(f *testing.F) {
	f.Add(uint8(2), uint8(3), 4, uint8(0b011), []byte{1, 2, 3, 4})
	f.Add(uint8(3), uint8(5), 7, uint8(0b11010), bytes.Repeat([]byte{9}, 9))
	f.Add(uint8(1), uint8(1), -1, uint8(1), []byte{})
	f.Add(uint8(2), uint8(4), 1, uint8(0b1111), make([]byte, 41*4))
	f.Fuzz(func(t *testing.T, k, n uint8, size int, set uint8, data []byte) {
		code, err := splitter.Erasure(int(k), int(n))
		if err != nil {
			return
		}
		shards := make([][]byte, n)
		count := bits.OnesCount8(set & (1<<n - 1))
		for i, left := 0, count; i < int(n); i++ {
			if set>>i&1 == 1 {
				each := len(data) / left
				shards[i], data, left = data[:each:each], data[each:], left-1
			}
		}
		if secret, err := splitter.NewSecrecy(int(k), int(n), splitter.ChaCha20Poly1305); err == nil {
			if _, err := secret.Join(nil, size, shards); err == nil {
				t.Fatal("joined bytes that nobody sealed")
			}
		}
		block, err := code.Join(nil, size, shards)
		if err != nil {
			if !errors.Is(err, splitter.ErrShard) && !errors.Is(err, splitter.ErrTooFewShards) {
				t.Fatal(err)
			}
			return
		}
		if len(block) != size {
			t.Fatalf("%d bytes, want %d", len(block), size)
		}
		if count > int(k) {
			return // those beyond the first K are not looked at
		}
		for i, shard := range split(t, code, block) {
			if shards[i] != nil && !bytes.Equal(shard, shards[i]) {
				t.Fatalf("shard %d is %x again, was %x", i, shard, shards[i])
			}
		}
	})
}
