package buf

import "testing"

func TestClasses(t *testing.T) {
	for _, tt := range []struct{ n, class int }{{0, 512}, {512, 512}, {513, 4096}, {33000, 36 << 10}, {65544, Max}, {Max, Max}} {
		b := Get(tt.n)
		if len(b.B) != tt.n || cap(b.B) != tt.class {
			t.Errorf("Get(%d): len %d, cap %d, want cap %d", tt.n, len(b.B), cap(b.B), tt.class)
		}
		b.Release()
	}
}

func TestMisusePanics(t *testing.T) {
	panics := func(name string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", name)
			}
		}()
		f()
	}
	panics("too large", func() { Get(Max + 1) })
	panics("negative", func() { Get(-1) })
	b := Get(1)
	b.Retain()
	b.Release()
	b.Release()
	panics("double release", b.Release)
	c := Get(1)
	c.Release()
	panics("retain of a dead buffer", c.Retain)
}

func TestAround(t *testing.T) {
	b := Get(100)
	b.B = b.B[40:] // as a reader leaves it
	p := b.B[10:20]
	if b.Around(p, 51) {
		t.Error("51 bytes before a slice at 50")
	}
	b.Retain()
	if b.Around(p, 50) {
		t.Error("a shared Buf was re-sliced")
	}
	b.Release()
	if !b.Around(p, 30) || len(b.B) != 40 || &b.B[30] != &p[0] {
		t.Errorf("B has %d bytes", len(b.B))
	}
	b.Release()
	if c := Get(512); len(c.B) != 512 { // B's front is back
		t.Errorf("%d bytes", len(c.B))
	}
}

// A record of three in one Buf is kept, and so is any that has its own; a few bytes
// do not hold a Buf back.
func TestFills(t *testing.T) {
	for _, tt := range []struct {
		size, part int
		want       bool
	}{
		{Max, 32 << 10, true}, {33000, 32 << 10, true}, {33000, 12 << 10, true}, {33000, 11 << 10, false},
		{Max, 31 << 10, false}, {4 << 10, 1024, false}, {4 << 10, 1400, true}, {170, 170, true}, {100, 100, false},
	} {
		b := Get(tt.size)
		if b.Fills(b.B[:tt.part]) != tt.want {
			t.Errorf("%d of %d: %v", tt.part, b.Cap(), !tt.want)
		}
		b.Release()
	}
}
