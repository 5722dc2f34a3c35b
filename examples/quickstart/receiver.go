package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// service is the name under which the receiver listens.
const service = "file"

// receiver listens for one conn, by relays alone, and takes what comes over it.
func receiver(ctx context.Context, p *parent) (err error) {
	cfg, relays, err := p.config()
	if err != nil {
		return err
	}
	sender, err := identity.ParseID(cfg.Peer)
	if err != nil {
		return err
	}
	// It listens on no address of its own: relays bring whoever asks for its
	// key, and Authorize lets in only the one that is expected.
	node := &mesh.Node{
		Bootstrap: relays,
		Authorize: func(_ context.Context, peer identity.ID, _ string) error {
			if peer != sender {
				return errors.New("not the sender that is expected")
			}
			return nil
		},
	}
	l, err := node.Listen(service)
	if err != nil {
		return err
	}
	if err := node.WaitReserved(ctx, len(relays)); err != nil {
		return err
	}
	p.tell(report{Ready: &ready{ID: node.ID().String()}})
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	var out io.Writer = io.Discard
	if cfg.Out != "" {
		f, err := os.OpenFile(cfg.Out, os.O_WRONLY, 0) // created by whoever gave the name
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return receive(p, conn.(*mesh.Conn), out, cfg.Mark)
}

// receive copies conn to out and reports what came.
func receive(p *parent, conn *mesh.Conn, out io.Writer, mark int64) error {
	m := startMeter(p, conn, func(c *mesh.Carried) uint64 { return c.Received })
	sum := sha256.New()
	buf := make([]byte, chunk)
	for {
		n, err := conn.Read(buf)
		sum.Write(buf[:n])
		if _, err := out.Write(buf[:n]); err != nil {
			return err
		}
		before := m.moved.Add(int64(n)) - int64(n)
		if before < mark && before+int64(n) >= mark {
			m.report()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", m.moved.Load(), err)
		}
	}
	// That we close tells the sender that we have all of it.
	m.finish(hex.EncodeToString(sum.Sum(nil)))
	return conn.Close()
}
