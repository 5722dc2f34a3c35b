// Package handshake proves two peers to each other and gives a path its keys.
// There is one handshake, and every path begins with it:
//
//	Noise_XKpsk2_25519_ChaChaPoly_SHA256, made hybrid with ML-KEM-768
//
//	dialler                                            responder
//	   opening: e, es, KEM key, suites, join token   →    who does not hold the key we
//	                                                      named can't read this, and is silent
//	   ←    message 2: e, ee, KEM ciphertext, psk, path id, instance
//	   message 3: s, se, the dialler's ID, instance  →    then data at once
//
// The dialler knows the responder's ID beforehand. The responder answers nobody
// who does not know it, and nobody twice for one opening; the dialler names
// itself last, when the responder has proven itself. Both need the same network
// key, if there is one. A dialler that joins a path to a session shows a token
// that both ends derive from the session's join secret, and proves that secret.
//
// It works on bytes, not on connections:
//
//	d, err := handshake.NewDialler(&cfg, peer, nil)   r, err := handshake.NewResponder(&cfg, seen, opening)
//	… d.Opening() goes to the peer                    msg2, err := r.Answer(handshake.Answer{PathID: 1})
//	msg3, result, err := d.Finish(msg2)               result, err := r.Finish(msg3)
//
// and Run does the rest of a handshake on a [net.Conn], in at most [Timeout].
//
// What it promises: a [Result] means that the peer holds the private key of
// Result.Peer and the same network key, that nothing was altered, and that the
// keys are fresh and stay secret when both static keys are stolen later, or
// X25519 is broken by a quantum computer: confidentiality is post-quantum,
// authentication is classical. It fails closed: after an error, a Dialler or
// Responder has forgotten its secrets, and each later call is an error. What a
// responder holds for a dialler that it does not know yet is at most 64 KiB.
//
// What it does not: an opening sealed for a node before it restarted, or before
// the bounded [ReplayCache] forgot it, is answered once more. That shows that
// somebody is there, and no more. The holder of a key A holds −A just as much,
// and may call itself either; nobody else may call it so.
package handshake

import (
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

// Timeout bounds Run, and so how long a peer that stalls can occupy us.
const Timeout = 10 * time.Second

// Bits of Config.Suites. Others are reserved: an offer may have them, and they
// are ignored.
const (
	SuiteAES    = 1 << (frame.AES256GCM - 1)
	SuiteChaCha = 1 << (frame.ChaCha20Poly1305 - 1)

	knownSuites = SuiteAES | SuiteChaCha
)

// Config is what one end brings to its handshakes. It is not changed and may be
// shared by any number of them.
type Config struct {
	Identity   *identity.Key
	NetworkKey *[32]byte // of a private network; nil: none
	Instance   [16]byte  // random for each start of the node
	Suites     uint8     // what to offer or accept; 0: AES only with hardware for it, and ChaCha
	Rand       io.Reader // nil: crypto/rand. Anything else is for test vectors

	// encapsulate replaces ML-KEM's own source of randomness, for test vectors.
	encapsulate func(*mlkem.EncapsulationKey768) (sharedKey, ciphertext []byte)
}

// config is a Config that was checked, with its defaults filled in.
type config struct {
	Config
	network [32]byte // the network key, or zeros
}

func (c *Config) resolve() (config, error) {
	r := config{Config: *c}
	if c.Identity == nil {
		return r, &Error{"config", fmt.Errorf("%w: no identity", ErrConfig)}
	}
	if c.NetworkKey != nil {
		if *c.NetworkKey == [32]byte{} {
			return r, &Error{"config", fmt.Errorf("%w: the network key is all zeros, which means none: generate one", ErrConfig)}
		}
		r.network = *c.NetworkKey
	}
	if r.Suites == 0 {
		r.Suites = SuiteChaCha
		if frame.HasAES() {
			r.Suites |= SuiteAES
		}
	}
	if r.Suites&^knownSuites != 0 {
		return r, &Error{"config", fmt.Errorf("%w: suites %#b, known are %#b", ErrConfig, r.Suites, knownSuites)}
	}
	if r.Rand == nil {
		r.Rand = rand.Reader
	}
	if r.encapsulate == nil {
		r.encapsulate = (*mlkem.EncapsulationKey768).Encapsulate
	}
	return r, nil
}

// A Join makes a path part of a session that exists: the token names the
// session to its other end, once; the secret, never sent, proves the right to it.
type Join struct{ Token, Secret [32]byte }

// An Answer is what a responder says to an opening.
type Answer struct {
	PathID     uint32
	JoinSecret *[32]byte // that of Join's token; nil for a path that does not join
	Refuse     bool      // the join token is not known; PathID and JoinSecret are not used
}

// A Result is what a completed handshake gives. It is secret: it formats, logs
// and marshals as who and which path only.
type Result struct {
	Peer         identity.ID
	PeerInstance [16]byte
	PathID       uint32
	Suite        frame.Suite
	Send, Recv   [32]byte // traffic secrets of the path's first epoch
	Exporter     [32]byte // from which further secrets of the session are derived
	Binding      [32]byte // hash of all that was said; public, the same at both ends
	Joined       bool     // the path proved the secret of a join token
}

// String returns the public part of r.
func (r Result) String() string {
	return fmt.Sprintf("path %d with %v (instance %x, %v, joined %v; secrets withheld)",
		r.PathID, r.Peer, r.PeerInstance[:4], r.Suite, r.Joined)
}

// Format writes r.String(), whatever the verb.
func (r Result) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue returns r.String().
func (r Result) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText returns r.String(), so that encoding/json shows no secret.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String says that there is a Join and shows nothing of it.
func (Join) String() string { return "join (token and secret withheld)" }

// Format writes j.String(), whatever the verb.
func (j Join) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, j.String()) }

// LogValue returns j.String().
func (j Join) LogValue() slog.Value { return slog.StringValue(j.String()) }

// MarshalText returns j.String(), so that encoding/json shows no secret.
func (j Join) MarshalText() ([]byte, error) { return []byte(j.String()), nil }
