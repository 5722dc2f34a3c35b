package handshake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

var (
	networkKey   = [32]byte{0x17}
	otherNetwork = [32]byte{0x18}
	join         = Join{Token: [32]byte{0x70}, Secret: [32]byte{0x71}}
)

func TestHandshake(t *testing.T) {
	for _, tt := range []struct {
		name     string
		s        setting
		suites   [2]uint8 // offered, accepted
		suite    frame.Suite
		opening  int
		wantJoin bool
	}{
		{"plain", setting{}, [2]uint8{3, 3}, frame.AES256GCM, openingSize, false},
		{"network key", setting{network: &networkKey}, [2]uint8{3, 3}, frame.AES256GCM, openingSize, false},
		{"joining", setting{join: &join}, [2]uint8{3, 3}, frame.AES256GCM, openingJoinSize, true},
		{"joining in a private network", setting{join: &join, network: &networkKey}, [2]uint8{3, 3}, frame.AES256GCM, openingJoinSize, true},
		{"dialler without AES", setting{}, [2]uint8{2, 3}, frame.ChaCha20Poly1305, openingSize, false},
		{"responder without AES", setting{}, [2]uint8{3, 2}, frame.ChaCha20Poly1305, openingSize, false},
		{"AES only", setting{}, [2]uint8{1, 1}, frame.AES256GCM, openingSize, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dc, rc := &Config{Identity: testKey(1), NetworkKey: tt.s.network, Instance: [16]byte{1}, Suites: tt.suites[0]},
				&Config{Identity: testKey(2), NetworkKey: tt.s.network, Instance: [16]byte{2}, Suites: tt.suites[1]}
			d, err := NewDialler(dc, rc.Identity.ID(), tt.s.join)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Opening()) != tt.opening || len(d.Opening()) > MaxMessage {
				t.Errorf("opening of %d bytes, want %d", len(d.Opening()), tt.opening)
			}
			r, err := NewResponder(rc, new(ReplayCache), d.Opening())
			if err != nil {
				t.Fatal(err)
			}
			a := Answer{PathID: 0xdeadbeef}
			if token, ok := r.Join(); ok != tt.wantJoin || ok && token != join.Token {
				t.Errorf("join token %x, %v", token, ok)
			} else if ok {
				a.JoinSecret = &join.Secret
			}
			msg2 := answer(t, r, a)
			msg3, dr, err := d.Finish(msg2)
			if err != nil {
				t.Fatal(err)
			}
			if len(msg2) != message2Size || len(msg3) != message3Size {
				t.Errorf("messages of %d and %d bytes", len(msg2), len(msg3))
			}
			rr, err := r.Finish(msg3)
			if err != nil {
				t.Fatal(err)
			}
			wantD := Result{Peer: rc.Identity.ID(), PeerInstance: rc.Instance, PathID: a.PathID, Suite: tt.suite, Joined: tt.wantJoin,
				Send: dr.Send, Recv: dr.Recv, Exporter: dr.Exporter, Binding: dr.Binding}
			wantR := wantD
			wantR.Peer, wantR.PeerInstance = dc.Identity.ID(), dc.Instance
			wantR.Send, wantR.Recv = dr.Recv, dr.Send
			if *dr != wantD || *rr != wantR {
				t.Errorf("got %v and %v,\nwant %v and %v", dr, rr, wantD, wantR)
			}
			secrets := map[[32]byte]bool{{}: true, dr.Send: true, dr.Recv: true, dr.Exporter: true, dr.Binding: true, JoinSecret(&dr.Exporter): true}
			if len(secrets) != 6 {
				t.Error("secrets are zero or equal")
			}
			d.wantOver(t)
			r.wantOver(t)
		})
	}
}

// Two handshakes of the same peers have nothing in common.
func TestFresh(t *testing.T) {
	seen := make(map[[32]byte]bool)
	for range 2 {
		dc, rc := &Config{Identity: testKey(1)}, &Config{Identity: testKey(2)}
		d, err := NewDialler(dc, rc.Identity.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewResponder(rc, new(ReplayCache), d.Opening())
		if err != nil {
			t.Fatal(err)
		}
		if _, res, err := d.Finish(answer(t, r, Answer{})); err != nil {
			t.Fatal(err)
		} else {
			seen[res.Send], seen[res.Recv], seen[res.Exporter], seen[res.Binding] = true, true, true, true
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d different values of 8", len(seen))
	}
}

// A node can dial itself.
func TestSelf(t *testing.T) {
	dc, rc := testConfigs()
	dc.Identity = rc.Identity
	d, err := NewDialler(dc, rc.Identity.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResponder(rc, new(ReplayCache), d.Opening())
	if err != nil {
		t.Fatal(err)
	}
	msg3, _, err := d.Finish(answer(t, r, Answer{}))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := r.Finish(msg3); err != nil || res.Peer != rc.Identity.ID() {
		t.Error(err)
	}
}

func TestUnknownToken(t *testing.T) {
	for _, network := range []*[32]byte{nil, &networkKey} {
		d, r := setting{join: &join, network: network}.start(t)
		_, _, err := d.Finish(answer(t, r, Answer{Refuse: true, PathID: 5, JoinSecret: &join.Secret}))
		wantError(t, err, "message 2", ErrUnknownToken)
		d.wantOver(t)
		_, err = r.Finish(nil)
		wantError(t, err, "message 3", ErrUnknownToken)
		r.wantOver(t)
	}
}

func TestJoinSecretsDiffer(t *testing.T) {
	d, r := setting{join: &join}.start(t)
	_, _, err := d.Finish(answer(t, r, Answer{JoinSecret: &[32]byte{1}}))
	wantError(t, err, "message 2", ErrAuth)
	d.wantOver(t)
}

func TestConfigRefusals(t *testing.T) {
	good, rc := testConfigs()
	peer := rc.Identity.ID()
	var zero [32]byte
	for name, c := range map[string]*Config{
		"no identity":      {},
		"zero network key": {Identity: good.Identity, NetworkKey: &zero},
		"unknown suite":    {Identity: good.Identity, Suites: 4},
	} {
		_, err := NewDialler(c, peer, nil)
		wantError(t, err, "config", ErrConfig)
		_, err = NewResponder(c, new(ReplayCache), nil)
		wantError(t, err, "config", ErrConfig)
		if err == nil {
			t.Error(name)
		}
	}
	_, err := NewDialler(good, peer, &Join{Token: [32]byte{1}})
	wantError(t, err, "config", ErrConfig)
	_, err = NewResponder(rc, nil, nil)
	wantError(t, err, "config", ErrConfig)

	c, err := (&Config{Identity: good.Identity}).resolve()
	if err != nil || c.Suites&SuiteChaCha == 0 || (c.Suites&SuiteAES != 0) != frame.HasAES() {
		t.Errorf("default suites are %#b, %v", c.Suites, err)
	}
	_, err = NewDialler(good, identity.ID{}, nil)
	wantError(t, err, "opening", ErrPoint)
}

func TestAnswerRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		join *Join
		a    Answer
		want error
	}{
		"secret for no token":  {nil, Answer{JoinSecret: &join.Secret}, ErrConfig},
		"no secret for token":  {&join, Answer{}, ErrConfig},
		"zero secret":          {&join, Answer{JoinSecret: new([32]byte)}, ErrConfig},
		"refusal of no token":  {nil, Answer{Refuse: true}, ErrConfig},
		"good, then once more": {nil, Answer{}, ErrState},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := setting{join: tt.join}.start(t)
			msg2, err := r.Answer(tt.a)
			if tt.want == ErrState {
				msg2, err = r.Answer(tt.a)
			}
			if wantError(t, err, "message 2", tt.want); msg2 != nil {
				t.Error("a message with the error")
			}
			r.wantOver(t)
		})
	}
	_, r := setting{}.start(t)
	_, err := r.Finish(nil)
	wantError(t, err, "message 3", ErrState)
	r.wantOver(t)
}

// A source of randomness that fails, wherever it does, ends the handshake.
func TestRandFails(t *testing.T) {
	boom := errors.New("boom")
	short := func(n int64, from io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(from, n), iotest.ErrReader(boom))
	}
	for _, n := range []int64{0, 64, 64 + 32} {
		dc, rc := testConfigs()
		dc.Rand = short(n, dc.Rand)
		d, err := NewDialler(dc, rc.Identity.ID(), nil)
		if wantError(t, err, "opening", boom); d != nil {
			t.Error("a dialler with the error")
		}
	}
	dc, rc := testConfigs()
	dc.Rand, rc.Rand = short(64+32+24, dc.Rand), short(32, rc.Rand)
	d, err := NewDialler(dc, rc.Identity.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResponder(rc, new(ReplayCache), d.Opening())
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Answer(Answer{})
	wantError(t, err, "message 2", boom)
	r.wantOver(t)
	_, r = setting{}.start(t)
	_, _, err = d.Finish(answer(t, r, Answer{}))
	wantError(t, err, "message 3", boom)
	d.wantOver(t)
}

// Nothing secret is in any text made of a Result, a Join, or an error.
func TestRedaction(t *testing.T) {
	r := Result{Peer: testKey(1).ID(), Send: [32]byte(bytes.Repeat([]byte{0xaa}, 32)), Recv: [32]byte(bytes.Repeat([]byte{0xbb}, 32)),
		Exporter: [32]byte(bytes.Repeat([]byte{0xcc}, 32))}
	j := Join{[32]byte(bytes.Repeat([]byte{0xaa}, 32)), [32]byte(bytes.Repeat([]byte{0xbb}, 32))}
	var out strings.Builder
	for _, v := range []any{r, &r, j, &j, struct{ X any }{r}, struct{ J *Join }{&j}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
	}
	for _, s := range []string{"aaaa", "bbbb", "cccc", "170 170", "170,170", "187 187", "187,187", "0xaa", "204 204", "0xcc", "qqqq", "u7u7", "zMzM"} {
		if strings.Contains(out.String(), s) {
			t.Errorf("%q is in the output", s)
		}
	}
	if !strings.Contains(out.String(), r.Peer.String()) {
		t.Error("the peer is not in the output")
	}
}

func TestErrorText(t *testing.T) {
	_, err := respond(setting{responder: testKey(3).ID()}.dial(t).Opening())
	want := "handshake: opening: altered, or not from the peer we mean, or the network keys differ (frame: open: " + frame.ErrAuth.Error() + ")"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
