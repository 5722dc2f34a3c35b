package handshake

import "testing"

// BenchmarkHandshake is both ends of a handshake, on one core.
func BenchmarkHandshake(b *testing.B) {
	dc, rc, seen := &Config{Identity: testKey(1)}, &Config{Identity: testKey(2)}, new(ReplayCache)
	b.ReportAllocs()
	for b.Loop() {
		d, err := NewDialler(dc, rc.Identity.ID(), nil)
		if err != nil {
			b.Fatal(err)
		}
		r, err := NewResponder(rc, seen, d.Opening())
		if err != nil {
			b.Fatal(err)
		}
		msg2, err := r.Answer(Answer{PathID: 1})
		if err != nil {
			b.Fatal(err)
		}
		msg3, _, err := d.Finish(msg2)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Finish(msg3); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStranger is what an opening costs that was not made for us.
func BenchmarkStranger(b *testing.B) {
	rc, seen := &Config{Identity: testKey(2)}, new(ReplayCache)
	opening := setting{responder: testKey(3).ID()}.dial(b).Opening()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewResponder(rc, seen, opening); err == nil {
			b.Fatal("no error")
		}
	}
}

// BenchmarkTokens is what a responder derives for each new session.
func BenchmarkTokens(b *testing.B) {
	secret := new([32]byte)
	b.ReportAllocs()
	for b.Loop() {
		token := JoinTokens(secret)
		for n := range uint64(16) {
			token(n)
		}
	}
}
