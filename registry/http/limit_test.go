package httpregistry_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// retry returns how many seconds the answer asks to wait.
func retry(t *testing.T, w *httptest.ResponseRecorder) time.Duration {
	t.Helper()
	wantAnswer(t, w, 429, "rate")
	s, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if err != nil || s < 1 {
		t.Fatalf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	return time.Duration(s) * time.Second
}

func TestRatePerAddress(t *testing.T) {
	w := newWorld(httpregistry.Options{PerAddress: httpregistry.Rate{Every: 90 * time.Second, Burst: 2}})
	from := func(addr string) *httptest.ResponseRecorder {
		return ask(w.h, "GET", "/v1/names/x", nil, "From-Test", addr, "X-Forwarded-For", "198.51.100.77", "Forwarded", "for=198.51.100.77")
	}
	spend := func(addr string) {
		t.Helper()
		for range 2 {
			wantAnswer(t, from(addr), 404, "not-found")
		}
		if wait := retry(t, from(addr)); wait != 90*time.Second {
			t.Errorf("it asks for %v", wait)
		}
	}
	spend("192.0.2.1:1000")
	retry(t, from("192.0.2.1:2000"))
	retry(t, from("[::ffff:192.0.2.1]:3000"))
	spend("192.0.2.2:1000")
	spend("[2001:db8::1]:1000")
	retry(t, from("[2001:db8::ffff:1]:1000"))
	retry(t, from("[2001:db8::2%eth0]:1000"))
	spend("[2001:db8:0:1::1]:1000")
	spend("@") // such as a Unix socket
	retry(t, from("nonsense"))
	// One comes back in time, as it said.
	w.clock.Advance(90 * time.Second)
	wantAnswer(t, from("192.0.2.1:1000"), 404, "not-found")
	retry(t, from("192.0.2.1:1000"))
	// A clock that is set back shuts nobody out.
	w.clock.Advance(-24 * time.Hour)
	spend("192.0.2.1:1000")
	// A bucket holds no more than Burst, however long nobody came.
	w.clock.Advance(100 * 24 * time.Hour)
	spend("192.0.2.1:1000")
}

func TestRateDefaults(t *testing.T) {
	w := newWorld(httpregistry.Options{})
	for i := range 100 {
		if got := ask(w.h, "GET", "/v1/names/x", nil); got.Code != 404 {
			t.Fatalf("number %d: %d", i, got.Code)
		}
	}
	retry(t, ask(w.h, "GET", "/v1/names/x", nil))
}

func TestClientAddr(t *testing.T) {
	w := newWorld(httpregistry.Options{
		PerAddress: httpregistry.Rate{Every: time.Minute, Burst: 1},
		ClientAddr: func(r *http.Request) netip.Addr {
			a, _ := netip.ParseAddr(r.Header.Get("X-Real-Ip"))
			return a
		},
	})
	from := func(addr string) *httptest.ResponseRecorder { return ask(w.h, "GET", "/", nil, "X-Real-Ip", addr) }
	for _, addr := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", ""} {
		wantAnswer(t, from(addr), 404, "no-route")
		retry(t, from(addr))
	}
}

func TestRatePerRecord(t *testing.T) {
	w := newWorld(httpregistry.Options{PerRecord: httpregistry.Rate{Every: time.Minute, Burst: 2}})
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	version := func(k *identity.Key, i int) *registry.Record {
		return registrytest.Signed(t, k, w.clock.Now().Add(time.Duration(i)*time.Millisecond))
	}
	first, second := version(ann, 1), version(ann, 2)
	forged := second.Marshal()
	forged[len(forged)-1] ^= 1
	ended := registrytest.Signed(t, ann, w.clock.Now().Add(-25*time.Hour))
	for range 3 {
		wantAnswer(t, w.put(ended), 422, "expired")
	}
	wantAnswer(t, w.put(first), 201, "")
	// What ann has not made newly costs her nothing.
	for range 5 {
		wantAnswer(t, w.put(first), 200, "")
		wantAnswer(t, w.put(version(ann, 0)), 409, "rollback")
		wantAnswer(t, ask(w.h, "PUT", "/v1/records/"+ann.ID().String(), forged), 403, "bad-signature")
	}
	wantAnswer(t, w.put(second), 200, "")
	if wait := retry(t, w.put(version(ann, 3))); wait != time.Minute {
		t.Errorf("it asks for %v", wait)
	}
	wantAnswer(t, w.put(version(bob, 3)), 201, "")
	w.clock.Advance(time.Minute)
	wantAnswer(t, w.put(version(ann, 4)), 200, "")
}

// Who makes up peers brings so many to the directory, revoked or not; those who are there, and others, come as before.
func TestRatePerNewcomer(t *testing.T) {
	w := newWorld(httpregistry.Options{PerNewcomer: httpregistry.Rate{Every: time.Hour, Burst: 2}})
	at := func(ms int) time.Time { return w.clock.Now().Add(time.Duration(ms) * time.Millisecond) }
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	wantAnswer(t, w.put(registrytest.Signed(t, ann, at(0)), "From-Test", "192.0.2.1:1"), 201, "")
	for range 3 { // what is refused costs nothing
		wantAnswer(t, w.put(registrytest.Signed(t, bob, at(0)), "From-Test", "192.0.2.1:1", "If-Match", "*"), 412, "precondition")
		wantAnswer(t, w.put(registrytest.Signed(t, registrytest.Key(t), at(-int(25*time.Hour/time.Millisecond))), "From-Test", "192.0.2.1:1"), 422, "expired")
	}
	wantAnswer(t, w.put(registrytest.Revocation(t, bob, at(0)), "From-Test", "192.0.2.1:2"), 201, "")
	for _, k := range []*identity.Key{registrytest.Key(t), registrytest.Key(t)} {
		if wait := retry(t, w.put(registrytest.Signed(t, k, at(0)), "From-Test", "192.0.2.1:3")); wait != time.Hour {
			t.Errorf("it asks for %v", wait)
		}
		retry(t, w.put(registrytest.Revocation(t, k, at(0)), "From-Test", "192.0.2.1:3"))
	}
	wantAnswer(t, w.put(registrytest.Signed(t, ann, at(1)), "From-Test", "192.0.2.1:1"), 200, "")
	wantAnswer(t, w.put(registrytest.Signed(t, registrytest.Key(t), at(0)), "From-Test", "192.0.2.2:1"), 201, "")
	w.clock.Advance(time.Hour)
	wantAnswer(t, w.put(registrytest.Signed(t, registrytest.Key(t), at(0)), "From-Test", "192.0.2.1:1"), 201, "")
}

// Nor does one for whom the directory has no place.
func TestFullCostsNoNewcomer(t *testing.T) {
	w := newWorld(httpregistry.Options{PerNewcomer: httpregistry.Rate{Every: time.Hour, Burst: 2}})
	w.dir.MaxRecords = 1
	wantAnswer(t, w.put(registrytest.Signed(t, registrytest.Key(t), w.clock.Now())), 201, "")
	k := registrytest.Key(t)
	for range 3 {
		wantAnswer(t, w.put(registrytest.Signed(t, k, w.clock.Now())), 507, "full")
	}
}

// A thief of the key who publishes all the time does not keep its owner from revoking it.
func TestRevocationIsNotLimited(t *testing.T) {
	w := newWorld(httpregistry.Options{PerRecord: httpregistry.Rate{Every: time.Minute, Burst: 1}})
	k := registrytest.Key(t)
	at := func(ms int) time.Time { return w.clock.Now().Add(time.Duration(ms) * time.Millisecond) }
	wantAnswer(t, w.put(registrytest.Signed(t, k, at(1))), 201, "")
	retry(t, w.put(registrytest.Signed(t, k, at(2))))
	wantAnswer(t, w.put(registrytest.Revocation(t, k, at(0))), 200, "")
	// Only the first is free.
	wantAnswer(t, w.put(registrytest.Revocation(t, registrytest.Key(t), at(0))), 201, "")
	retry(t, w.put(registrytest.Revocation(t, k, at(1))))
}

// Who sends a peer's record where its name is taken can do so for ever, and the peer may still publish another.
func TestRefusedRecordsAreNotLimited(t *testing.T) {
	w := newWorld(httpregistry.Options{PerRecord: httpregistry.Rate{Every: time.Minute, Burst: 1}})
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	called := func(k *identity.Key, name string) *registry.Record {
		r := registrytest.Draft(t, w.clock.Now())
		r.Name = name
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		return r
	}
	wantAnswer(t, w.put(called(ann, "ann")), 201, "")
	for range 3 {
		wantAnswer(t, w.put(called(bob, "ann")), 409, "name-taken")
	}
	wantAnswer(t, w.put(called(bob, "bob")), 201, "")
	retry(t, w.put(called(bob, "bobby")))
}

func TestBucketsAreBounded(t *testing.T) {
	w := newWorld(httpregistry.Options{PerAddress: httpregistry.Rate{Every: time.Hour, Burst: 1}})
	a := netip.MustParseAddr("10.0.0.0")
	from := func(a netip.Addr) *httptest.ResponseRecorder {
		return ask(w.h, "GET", "/", nil, "From-Test", netip.AddrPortFrom(a, 1).String())
	}
	first := a
	for i := range 3 * httpregistry.MaxBuckets {
		wantAnswer(t, from(a), 404, "no-route")
		if a = a.Next(); i%(httpregistry.MaxBuckets/2) == 0 { // who comes now and then is not forgotten
			retry(t, from(first))
		}
	}
	if n, _ := httpregistry.Buckets(w.h); n > 2*httpregistry.MaxBuckets {
		t.Errorf("%d buckets", n)
	}
}
