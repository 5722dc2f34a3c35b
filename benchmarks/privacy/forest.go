package main

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// A forest is Breiman's random forest: trees grown on bootstrap samples, each
// split the best by Gini impurity of √features drawn at random, leaves pure.
// Features are cut into up to 256 bins at quantiles of the training set, which
// makes splits fast and loses next to nothing.
type forest struct {
	cuts  [][]float64 // per feature, ascending
	trees [][]node
	kinds int
}

// A node of a tree: samples whose feature's bin is at most cut go left. A leaf
// has left 0 and the class in right.
type node struct {
	feature     uint16
	cut         uint8
	left, right int32
}

// A sample is what was seen of one visit, and of which class it was.
type sample struct {
	features []float64
	class    int
}

// train grows a forest. The same seed grows the same one.
func train(samples []sample, kinds, trees int, seed uint64) *forest {
	f := &forest{kinds: kinds, trees: make([][]node, trees), cuts: make([][]float64, len(samples[0].features))}
	column := make([]float64, len(samples))
	for j := range f.cuts {
		for i := range samples {
			column[i] = samples[i].features[j]
		}
		slices.Sort(column)
		for b := 1; b < 256; b++ {
			v := column[b*len(column)/256]
			if n := len(f.cuts[j]); n == 0 || v > f.cuts[j][n-1] {
				f.cuts[j] = append(f.cuts[j], v)
			}
		}
	}
	bins := make([][]uint8, len(samples))
	parallelFor(len(samples), func(i int) { bins[i] = f.bin(samples[i].features) })
	parallelFor(trees, func(t int) {
		r := rand.New(rand.NewPCG(seed, uint64(t)))
		g := &grower{
			bins: bins, samples: samples, chance: r, order: r.Perm(len(f.cuts)),
			tries: int(math.Sqrt(float64(len(f.cuts)))), left: make([]int, kinds), right: make([]int, kinds),
			keys: make([]uint32, len(samples)),
		}
		picked := make([]int32, len(samples))
		for i := range picked {
			picked[i] = int32(r.IntN(len(samples)))
		}
		g.grow(picked)
		f.trees[t] = g.tree
	})
	return f
}

// bin tells for each feature how many cuts lie below it.
func (f *forest) bin(features []float64) []uint8 {
	b := make([]uint8, len(features))
	for j, v := range features {
		n, _ := slices.BinarySearch(f.cuts[j], v)
		b[j] = uint8(n)
	}
	return b
}

// classify returns the class that most trees vote for.
func (f *forest) classify(features []float64) int {
	b := f.bin(features)
	votes := make([]int, f.kinds)
	for _, tree := range f.trees {
		n := &tree[0]
		for n.left != 0 {
			if b[n.feature] <= n.cut {
				n = &tree[n.left]
			} else {
				n = &tree[n.right]
			}
		}
		votes[n.right]++
	}
	best := 0
	for c, v := range votes {
		if v > votes[best] {
			best = c
		}
	}
	return best
}

// accuracy is the fraction of samples that the forest tells right; 0 of none.
func (f *forest) accuracy(samples []sample) float64 {
	if len(samples) == 0 {
		return 0
	}
	right := make([]int, len(samples))
	parallelFor(len(samples), func(i int) {
		if f.classify(samples[i].features) == samples[i].class {
			right[i] = 1
		}
	})
	sum := 0
	for _, r := range right {
		sum += r
	}
	return float64(sum) / float64(len(samples))
}

// A grower grows one tree.
type grower struct {
	bins        [][]uint8
	samples     []sample
	chance      *rand.Rand
	order       []int // features, shuffled as far as needed at each node
	tries       int
	left, right []int // samples of each class on either side of a cut
	keys        []uint32
	tree        []node
}

// grow adds the tree of the picked samples, which it reorders, and returns its root.
func (g *grower) grow(picked []int32) int32 {
	at := int32(len(g.tree))
	class := g.samples[picked[0]].class
	g.tree = append(g.tree, node{right: int32(class)})
	pure := true
	for _, i := range picked {
		pure = pure && g.samples[i].class == class
	}
	if pure {
		return at
	}
	feature, cut, found := g.split(picked)
	if !found {
		g.tree[at].right = g.majority(picked)
		return at
	}
	lo, hi := 0, len(picked)
	for lo < hi {
		if g.bins[picked[lo]][feature] <= cut {
			lo++
		} else {
			hi--
			picked[lo], picked[hi] = picked[hi], picked[lo]
		}
	}
	left := g.grow(picked[:lo])
	right := g.grow(picked[lo:])
	g.tree[at] = node{uint16(feature), cut, left, right}
	return at
}

func (g *grower) majority(picked []int32) int32 {
	clear(g.left)
	best := int32(0)
	for _, i := range picked {
		c := g.samples[i].class
		if g.left[c]++; g.left[c] > g.left[best] {
			best = int32(c)
		}
	}
	return best
}

// split finds the best cut among features drawn at random; those that are the
// same for all samples are not counted as tries.
func (g *grower) split(picked []int32) (feature int, cut uint8, found bool) {
	best, tried := -1.0, 0
	for k := range g.order {
		if tried == g.tries {
			break
		}
		other := k + g.chance.IntN(len(g.order)-k)
		g.order[k], g.order[other] = g.order[other], g.order[k]
		j := g.order[k]
		c, score := g.cut(picked, j)
		if score < 0 {
			continue
		}
		tried++
		if score > best {
			best, feature, cut, found = score, j, c, true
		}
	}
	return feature, cut, found
}

// cut sweeps over a feature's bins. The score is the sum over both sides of
// Σ count² / size: the larger, the purer; below 0 there is nothing to cut.
func (g *grower) cut(picked []int32, j int) (at uint8, score float64) {
	keys := g.keys[:len(picked)]
	first := g.bins[picked[0]][j]
	same := true
	for n, i := range picked {
		b := g.bins[i][j]
		same = same && b == first
		keys[n] = uint32(b)<<16 | uint32(g.samples[i].class)
	}
	if same {
		return 0, -1
	}
	slices.Sort(keys)
	clear(g.left)
	clear(g.right)
	for _, k := range keys {
		g.right[k&0xffff]++
	}
	l, r, score := 0, 0, -1.0
	for _, n := range g.right {
		r += n * n
	}
	for n, k := range keys[:len(keys)-1] {
		c := k & 0xffff
		l += 2*g.left[c] + 1
		r -= 2*g.right[c] - 1
		g.left[c]++
		g.right[c]--
		if keys[n+1]>>16 == k>>16 {
			continue
		}
		if s := float64(l)/float64(n+1) + float64(r)/float64(len(keys)-n-1); s > score {
			at, score = uint8(k>>16), s
		}
	}
	return at, score
}

// parallelFor runs f for 0 to n−1 on all cores, and returns when all are done.
func parallelFor(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { // ends when no number is left
			for i := range next {
				f(i)
			}
		})
	}
	wg.Wait()
}
