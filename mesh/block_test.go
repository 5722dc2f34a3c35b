package mesh_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// TestBlock: the conns with who is blocked end; it is neither let in nor dialled until its time is over.
func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, _, _, _ := roamers(t, 0)
		l := listen(t, server, "x", 0)
		here, there := connect(t, &mesh.Dialer{Node: client}, l)
		echoes := listen(t, server, "echo", 0)
		go echo(echoes)
		other := start(t, &mesh.Node{Identity: key(t, 3), Directory: client.Directory, Transports: client.Transports})
		server.Block(client.ID(), time.Minute)
		if _, err := there.Read(make([]byte, 1)); !errors.Is(err, mesh.ErrBlocked) {
			t.Errorf("conn with who is blocked: %v", err)
		}
		if _, err := here.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("conn with who blocks: %v", err)
		}
		if _, err := server.Dial(t.Context(), client.ID().String()+":x"); !errors.Is(err, mesh.ErrBlocked) {
			t.Errorf("dial of who is blocked: %v", err)
		}
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := ask(ctx, &mesh.Dialer{Node: client}, echoes.Addr().String()); err == nil {
				t.Error("who is blocked is answered")
			}
			cancel()
		}
		if st := server.Stats().Sessions; len(st) != 0 {
			t.Errorf("%d sessions", len(st))
		}
		if err := ask(t.Context(), &mesh.Dialer{Node: other}, echoes.Addr().String()); err != nil {
			t.Errorf("another: %v", err)
		}
		time.Sleep(time.Minute) // virtual
		if err := ask(t.Context(), &mesh.Dialer{Node: client}, echoes.Addr().String()); err != nil {
			t.Errorf("after a minute: %v", err)
		}
		echoes.Close()
	})
}

// TestBlocksAreBounded: of too many, the first to end is forgotten.
func TestBlocksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &mesh.Node{})
		var ids []identity.ID
		for i := range 4096 + 1 {
			k, err := identity.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, k.ID())
			n.Block(k.ID(), time.Hour-time.Duration(i)*time.Second/10)
		}
		blocked := func(id identity.ID) bool {
			_, err := n.Dial(t.Context(), id.String()+":x")
			return errors.Is(err, mesh.ErrBlocked)
		}
		if blocked(ids[4096]) || !blocked(ids[0]) {
			t.Error("another is forgotten")
		}
		time.Sleep(time.Hour + 1) // virtual
		if blocked(ids[0]) {
			t.Error("blocked for good")
		}
	})
}

// TestBlockIsNotShortened: who is blocked for long and for a while is blocked for long.
func TestBlockIsNotShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &mesh.Node{})
		for _, d := range []time.Duration{time.Hour, time.Minute} {
			n.Block(key(t, 2).ID(), d)
		}
		time.Sleep(2 * time.Minute) // virtual
		if _, err := n.Dial(t.Context(), key(t, 2).ID().String()+":x"); !errors.Is(err, mesh.ErrBlocked) {
			t.Error(err)
		}
	})
}
