package mesh_test

import (
	"errors"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// TestRelayAtWork: who runs a relay sees its circuits and reservations, changes its
// limits without an end to what is there, and puts a peer out.
func TestRelayAtWork(t *testing.T) {
	between, boot := relays(t, 1, overWS, mesh.RelayConfig{})
	relay := between[0]
	server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
	l := listen(t, server, "x", 1)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot})
	d := &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}
	here, there := connect(t, d, l)
	if got := relay.Reserved(); len(got) != 1 || got[0] != server.ID() {
		t.Errorf("reserved: %v", got)
	}
	pass := func(n int) {
		t.Helper()
		if _, err := here.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(there, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	pass(100_000)
	until(t, "the bytes are counted", func() bool { c := relay.Circuits(); return len(c) != 1 || c[0].Bytes >= 100_000 }) // once they have gone on
	got := relay.Circuits()
	if len(got) != 1 || got[0].Source != client.ID() || got[0].Target != server.ID() || got[0].Bytes < 100_000 || time.Since(got[0].Since) > time.Hour {
		t.Errorf("circuits: %+v", got)
	}
	if st := client.Stats(); st.Sent < 100_000 {
		t.Errorf("sent %d", st.Sent)
	}

	if err := relay.SetRelay(mesh.RelayConfig{MaxCircuits: 1}); err != nil {
		t.Fatal(err)
	}
	other := start(t, &mesh.Node{Identity: key(t, 3), Bootstrap: boot})
	dial := func() error {
		_, err := (&mesh.Dialer{Node: other, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}).Dial(within(t), l.Addr().String())
		return err
	}
	if e, ok := errors.AsType[*mesh.LimitError](dial()); !ok || e.Limit != "MaxCircuits" || e.Value != 1 {
		t.Errorf("over the new limit: %v", e)
	}
	none := mesh.RelayConfig{Allow: func(identity.ID) bool { return false }}
	if err := relay.SetRelay(none); err != nil {
		t.Fatal(err)
	}
	if err := dial(); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("not allowed: %v", err)
	}
	refused := relay.Stats().Relay.Refused
	if refused["MaxCircuits"] == 0 || refused["Allow"] == 0 || len(refused) != 2 {
		t.Errorf("refused: %v", maps.Collect(maps.All(refused)))
	}
	pass(100_000) // which is as before

	before := client.Stats().Sent
	if n := relay.Disconnect(server.ID()); n != 1 {
		t.Errorf("%d sessions ended", n)
	}
	if n := relay.Disconnect(key(t, 9).ID()); n != 0 {
		t.Errorf("%d sessions with nobody ended", n)
	}
	until(t, "no circuits", func() bool { return len(relay.Circuits()) == 0 && relay.Stats().Relay.Circuits == 0 })
	// What was counted stays, though the session with the relay is gone; the client may have another at once.
	until(t, "the end of the session", func() bool {
		for _, s := range client.Stats().Sessions {
			if s.Peer == relay.ID() {
				relay.Disconnect(client.ID())
				return false
			}
		}
		return true
	})
	if after := client.Stats().Sent; after < before {
		t.Errorf("%d bytes sent, and %d before", after, before)
	}
	if err := client.SetRelay(none); err == nil {
		t.Error("limits for a node that does not relay")
	}
	if client.Circuits() != nil || client.Reserved() != nil {
		t.Error("a node that does not relay has circuits")
	}
}

// TestRate: what a circuit carries comes no sooner than the rate allows.
func TestRate(t *testing.T) {
	const size, burst, rate = 192 << 10, 128 << 10, 128 << 10
	_, boot := relays(t, 1, overWS, mesh.RelayConfig{BytesPerSecond: rate})
	l := listen(t, start(t, &mesh.Node{Bootstrap: boot}), "x", 1)
	client := start(t, &mesh.Node{Bootstrap: boot})
	here, there := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}, l)
	begin := time.Now()
	go here.Write(make([]byte, size))
	if _, err := io.ReadFull(there, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if took, least := time.Since(begin), time.Second*(size-burst)/rate; took < least {
		t.Errorf("%d bytes took %v, and at %d a second, of which %d come at once, they take %v at least", size, took, rate, burst, least)
	}
}

// TestNewRate: a new rate counts for a peer that had one, while its circuit lives.
func TestNewRate(t *testing.T) {
	between, boot := relays(t, 1, overWS, mesh.RelayConfig{BytesPerSecond: 1000}) // of which 64 KiB come at once
	server := start(t, &mesh.Node{Bootstrap: boot})
	l := listen(t, server, "x", 1)
	client := start(t, &mesh.Node{Bootstrap: boot})
	here, there := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}, l)
	const size = 1 << 20 // seventeen minutes, by the old rate
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(there, make([]byte, size))
		read <- err
	}()
	go here.Write(make([]byte, size))
	until(t, "the first bytes", func() bool { return between[0].Stats().Relay.Bytes > 32<<10 })
	if err := between[0].SetRelay(mesh.RelayConfig{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-within(t).Done():
		t.Error("the old rate counts still")
	}
}
