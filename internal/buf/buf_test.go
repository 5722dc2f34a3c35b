package buf

import "testing"

func TestClasses(t *testing.T) {
	for _, tt := range []struct{ n, class int }{{0, 512}, {512, 512}, {513, 4096}, {33000, 36 << 10}, {65544, 65544}} {
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
	panics("too large", func() { Get(65545) })
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
