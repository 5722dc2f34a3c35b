package mdns

import (
	"bytes"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// A question is understood by who has the key and knows the subject, for 10 to 20 minutes.
func TestAsks(t *testing.T) {
	id := registrytest.Key(t).ID()
	k, subject := newKeys(networkKey(1)), ofID(id)
	asked := k.ask(slotOf(noon), [saltSize]byte{1}, subject)
	for _, tc := range []struct {
		what string
		keys *keys
		at   time.Time
		want bool
	}{
		{"at once", k, noon, true},
		{"another's key", newKeys(networkKey(2)), noon, false},
		{"no key", newKeys(nil), noon, false},
		{"10 minutes later", k, noon.Add(slotLength), true},
		{"20 minutes later", k, noon.Add(2 * slotLength), false},
		{"by a clock 10 minutes slow", k, noon.Add(-slotLength), true},
		{"by a clock 11 minutes slow", k, noon.Add(-slotLength - time.Minute), false},
	} {
		if got := tc.keys.asks(tc.at, asked, subject); got != tc.want {
			t.Errorf("%s: %v", tc.what, got)
		}
		sealed := k.seal(slotOf(noon), [nonceSize]byte{2}, asked, []byte("record"))
		if got := tc.keys.open(tc.at, message{asked, sealed}); (got != nil) != tc.want {
			t.Errorf("%s: opened %q", tc.what, got)
		}
	}
	if k.asks(noon, asked, ofID(registrytest.Key(t).ID())) || k.asks(noon, asked, ofName(string(id[:]))) {
		t.Error("a question is for another subject too")
	}
	if again := k.ask(slotOf(noon), [saltSize]byte{2}, subject); bytes.Equal(again[saltSize:], asked[saltSize:]) {
		t.Error("two questions for one subject show that they are")
	}
}

// A sealed record belongs to its label, and no bit of it can be changed.
func TestSealed(t *testing.T) {
	k, record := newKeys(nil), []byte("record")
	sealed := k.seal(slotOf(noon), [nonceSize]byte{1}, someLabel, record)
	if got := k.open(noon, message{someLabel, sealed}); !bytes.Equal(got, record) {
		t.Fatalf("opened %q", got)
	}
	if k.open(noon, message{label{}, sealed}) != nil || k.open(noon, message{someLabel, sealed[:10]}) != nil {
		t.Error("opened for another label, or cut")
	}
	for i := range sealed {
		sealed[i] ^= 1
		if k.open(noon, message{someLabel, sealed}) != nil {
			t.Fatalf("opened with byte %d changed", i)
		}
		sealed[i] ^= 1
	}
}
