package handshake

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/flynn/noise"
)

// A psk that is not set is an error in both directions. The library by itself
// reads message 2 as if the psk were empty, from whoever wrote it so.
func TestPSKUnset(t *testing.T) {
	write := func(t *testing.T) (initiator *noiseState, msg2 []byte) {
		static, us := testKey(2), testKey(1)
		initiator, err := newNoise(true, us.X25519(), static.ID(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		msg1, _, err := initiator.write(nil)
		if err != nil {
			t.Fatal(err)
		}
		responder, err := newNoise(false, static.X25519(), static.ID(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := responder.read(msg1); err != nil {
			t.Fatal(err)
		}
		if _, _, err := responder.write(nil); !errors.Is(err, errNoPSK) {
			t.Errorf("written without psk: %v", err)
		}
		// A responder of another make, with an empty psk.
		ref := newReference(false, static, static.ID(), us.ID())
		ref.read1(msg1)
		return initiator, ref.write2(bytes.Repeat([]byte{7}, 32), nil, nil)
	}
	initiator, msg2 := write(t)
	if _, _, err := initiator.read(msg2); !errors.Is(err, errNoPSK) {
		t.Errorf("read without psk: %v, want errNoPSK", err)
	}
	initiator, msg2 = write(t)
	if _, _, _, err := initiator.hs.ReadMessage(nil, msg2); err != nil {
		t.Errorf("the library has mended its trap: %v", err)
	}
	if err := initiator.setPSK([]byte("short")); err == nil || initiator.hasPSK {
		t.Errorf("a psk of 5 bytes: %v", err)
	}
}

// A placeholder psk would have the library write message 2 with it.
func TestPSKPlaceholder(t *testing.T) {
	_, r := setting{}.start(t)
	if r.noise.hasPSK {
		t.Error("a psk is set before it can be known")
	}
	if _, _, _, err := r.noise.hs.WriteMessage(nil, nil); err == nil {
		t.Error("the library has a psk before it can be known")
	}
}

// The library's hash goes on changing in place; ours is a copy.
func TestHashIsACopy(t *testing.T) {
	d, r := setting{}.start(t)
	live := d.noise.hs.ChannelBinding()
	h1, before := d.h1, bytes.Clone(live)
	n := d.noise // which the dialler forgets
	if h1 != r.h1 || !bytes.Equal(h1[:], live) {
		t.Fatal("the ends differ after message 1")
	}
	copied := n.hash()
	if _, err := d.read(answer(t, r, Answer{})); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(live, before) {
		t.Error("the library has mended its trap")
	}
	if d.h1 != h1 || copied != h1 {
		t.Error("the copy has changed")
	}
}

// The library accepts a second try after an error; we have nothing left to try.
func TestNoSecondTry(t *testing.T) {
	d, r := setting{}.start(t)
	msg2 := answer(t, r, Answer{})
	bad := bytes.Clone(msg2)
	bad[len(bad)-1] ^= 1
	if _, _, err := d.Finish(bad); err == nil {
		t.Fatal("no error")
	}
	_, _, err := d.Finish(msg2)
	wantError(t, err, "message 2", ErrState)
}

// The library never holds a private key, only handles.
func TestHandles(t *testing.T) {
	d, _ := setting{}.start(t)
	if e := d.noise.hs.LocalEphemeral(); !bytes.Equal(e.Private, ephemeralHandle) || e.Public == nil {
		t.Errorf("the library's ephemeral is %q", e.Private)
	}
	var _ noise.DHFunc = d.noise.dh
	if name := string(noise.NewCipherSuite(d.noise.dh, noise.CipherChaChaPoly, noise.HashSHA256).Name()); name != "25519_ChaChaPoly_SHA256" {
		t.Error(name)
	}
}
