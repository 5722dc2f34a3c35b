package handshake

import (
	"bytes"
	"crypto/mlkem"
	"errors"
	"testing"
)

// How a fuzzer's bytes become a message: the deeper, the more the sender knows.
const (
	layerWire  = iota // the bytes are the message
	layerFlip         // they are xored into the valid message, from at on
	layerFrame        // they are sealed in a frame: by who knows the responder's ID
	layerNoise        // they are the payload in Noise: by a peer with the right keys
	layers
)

// mutate makes a message of all layers but the deepest.
func mutate(t *testing.T, layer int, key *[32]byte, valid []byte, seq uint32, at uint16, data []byte) []byte {
	msg := bytes.Clone(valid)
	switch layer {
	case layerWire:
		return data
	case layerFlip:
		for i, b := range data {
			msg[(int(at)+i)%len(msg)] ^= b
		}
		return msg
	}
	return reseal(t, key, msg, seq, func(e *[32]byte, p []byte) []byte {
		for i, b := range data { // from the ephemeral key on, over the end as far as that goes
			if i += int(at) % (32 + len(p)); i < 32 {
				e[i] ^= b
			} else if i -= 32; i < len(p) {
				p[i] ^= b
			}
		}
		return p
	})
}

func add(f *testing.F, payloads ...[]byte) {
	for layer := range uint8(layers) {
		f.Add(layer, uint16(0), []byte{})
		f.Add(layer, uint16(40), []byte{1})
		f.Add(layer, uint16(70), bytes.Repeat([]byte{0xff}, 40))
	}
	for _, p := range payloads {
		f.Add(uint8(layerNoise), uint16(0), p)
	}
}

// typed fails the test unless err is an *Error of the stage.
func typed(t *testing.T, err error, stage string) {
	var e *Error
	if !errors.As(err, &e) || e.Stage != stage {
		t.Fatalf("%#v is not an error of %s", err, stage)
	}
}

func FuzzOpening(f *testing.F) {
	msgs, key := messages(f)
	good := payload1{kem: setting{}.dial(f).kem.EncapsulationKey().Bytes(), suites: knownSuites}
	plain := good.encode()
	good.join = true
	add(f, plain, good.encode(), plain[mlkem.EncapsulationKeySize768:])
	f.Add(uint8(layerWire), uint16(0), msgs[0])
	f.Fuzz(func(t *testing.T, layer uint8, at uint16, data []byte) {
		var opening []byte
		if layer %= layers; layer == layerNoise {
			opening = evilOpening(t, data[:min(len(data), 1<<12)])
		} else {
			opening = mutate(t, int(layer), &key, msgs[0], 1, at, data)
		}
		r, err := respond(opening)
		if err != nil {
			typed(t, err, "opening")
			return
		}
		if layer == layerNoise {
			p := payload1{kem: data[:mlkem.EncapsulationKeySize768], suites: data[mlkem.EncapsulationKeySize768], join: r.join, token: r.token}
			if !bytes.Equal(p.encode(), data) {
				t.Fatalf("accepted %x", data)
			}
		} else if _, p, err := openMessage(&key, opening, 1, openingSize); err != nil || !bytes.Equal(p, opened(t, &key, msgs[0], 1)) {
			t.Fatalf("accepted %x", opening)
		}
		if _, err := r.Answer(Answer{JoinSecret: map[bool]*[32]byte{true: &join.Secret}[r.join]}); err != nil {
			t.Fatalf("accepted, then %v", err)
		}
	})
}

// opened returns what is in a valid message's frame.
func opened(t *testing.T, key *[32]byte, msg []byte, seq uint32) []byte {
	_, p, err := openMessage(key, msg, seq, len(msg))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func FuzzMessage2(f *testing.F) {
	msgs, key := messages(f)
	add(f, (&payload2{suite: 1}).encode(), (&payload2{suite: 2, path: 5}).encode(), (&payload2{status: 1}).encode(), (&payload2{suite: 3}).encode())
	f.Add(uint8(layerWire), uint16(0), msgs[1])
	f.Fuzz(func(t *testing.T, layer uint8, at uint16, data []byte) {
		d, r := setting{}.start(t)
		var msg2 []byte
		if layer %= layers; layer == layerNoise {
			if len(data) != payload2Size {
				data = append(data, make([]byte, payload2Size)...)[:payload2Size] // other sizes never get so far
			}
			msg2 = r.evilAnswer(t, 0, [32]byte{}, data)
		} else {
			msg2 = mutate(t, int(layer), &key, msgs[1], 2, at, data)
		}
		msg3, res, err := d.Finish(msg2)
		d.wantOver(t)
		if err != nil {
			if typed(t, err, "message 2"); msg3 != nil || res != nil {
				t.Fatal("results with the error")
			}
			return
		}
		if layer == layerNoise {
			p := payload2{0, res.Suite, res.PathID, res.PeerInstance}
			if !bytes.Equal(p.encode(), data) || bit(res.Suite) == 0 {
				t.Fatalf("accepted %x", data)
			}
		} else if !bytes.Equal(opened(t, &key, msg2, 2), opened(t, &key, msgs[1], 2)) {
			t.Fatalf("accepted %x", msg2)
		}
	})
}

func FuzzMessage3(f *testing.F) {
	msgs, key := messages(f)
	us := testKey(1).ID()
	add(f, (&payload3{id: us}).encode(), (&payload3{id: negated(f, us)}).encode(), (&payload3{id: testKey(3).ID()}).encode())
	f.Add(uint8(layerWire), uint16(0), msgs[2])
	f.Fuzz(func(t *testing.T, layer uint8, at uint16, data []byte) {
		d, r := setting{}.start(t)
		msg2 := answer(t, r, Answer{PathID: 1})
		var msg3 []byte
		if layer %= layers; layer == layerNoise {
			if len(data) != payload3Size {
				data = append(data, make([]byte, payload3Size)...)[:payload3Size] // other sizes never get so far
			}
			msg3 = d.evilName(t, msg2, data)
		} else {
			msg3 = mutate(t, int(layer), &key, msgs[2], 3, at, data)
		}
		res, err := r.Finish(msg3)
		r.wantOver(t)
		if err != nil {
			if typed(t, err, "message 3"); res != nil {
				t.Fatal("a result with the error")
			}
			return
		}
		if layer == layerNoise {
			p := payload3{res.Peer, res.PeerInstance}
			if !bytes.Equal(p.encode(), data) || res.Peer != us && res.Peer != negated(t, us) {
				t.Fatalf("accepted %x", data)
			}
		} else if !bytes.Equal(opened(t, &key, msg3, 3), opened(t, &key, msgs[2], 3)) {
			t.Fatalf("accepted %x", msg3)
		}
	})
}
