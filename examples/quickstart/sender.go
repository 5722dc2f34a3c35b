package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// chunk is how much is read and written at a time.
const chunk = 256 << 10

// sender dials the receiver's key over relays and writes the file.
func sender(ctx context.Context, p *parent) error {
	key, err := identity.GenerateKey()
	if err != nil {
		return err
	}
	p.tell(report{Ready: &ready{ID: key.ID().String()}})
	cfg, relays, err := p.config()
	if err != nil {
		return err
	}
	src, err := openSource(cfg.File, cfg.Size)
	if err != nil {
		return err
	}
	defer src.Close()
	// Cfg.Paths relays at once, never fewer, none of which may carry more than
	// its share of any mebibyte: when one dies, writes wait until another has
	// taken its place.
	dialer := &mesh.Dialer{
		Node:        &mesh.Node{Identity: key, Bootstrap: relays},
		RelayedOnly: true,
		Paths:       cfg.Paths,
		Split:       splitter.Policy{MinPaths: cfg.Paths, MaxShare: cfg.MaxShare},
	}
	conn, err := dialer.Dial(ctx, cfg.Peer+":"+service)
	if err != nil {
		return err
	}
	return send(p, conn.(*mesh.Conn), src, cfg.Hold)
}

// send writes src to conn, waits until the receiver has all of it, and reports
// what went.
func send(p *parent, conn *mesh.Conn, src *source, hold int64) error {
	m := startMeter(p, conn, func(c *mesh.Carried) uint64 { return c.Sent })
	m.report()
	sum := sha256.New()
	buf := make([]byte, chunk)
	for at := int64(0); ; {
		next := buf
		if hold > at {
			next = buf[:min(int64(len(buf)), hold-at)]
		} else if hold > 0 {
			<-m.goOn // the parent, who is to say so, or whose end is ours
		}
		n, err := io.ReadFull(src, next)
		sum.Write(next[:n])
		if _, err := conn.Write(next[:n]); err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
		at += int64(n)
		m.moved.Store(at)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := src.Unchanged(); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	// The receiver closes when it has read everything.
	if _, err := conn.Read(buf[:1]); err != io.EOF {
		return fmt.Errorf("waiting for the receiver to have it all: %w", err)
	}
	m.finish(hex.EncodeToString(sum.Sum(nil)))
	return conn.Close()
}
