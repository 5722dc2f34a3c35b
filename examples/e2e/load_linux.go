package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"
)

// blockSize is what a transfer carries, each way.
const blockSize = 1 << 20

// chance is what a transfer carries: a seed says what.
func chance(seed uint64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, blockSize)
	_, _ = rand.NewChaCha8(key).Read(b) // which never fails
	return b
}

// answer serves one transfer: it is told a seed, sends what that makes, and takes what the next one makes.
func answer(c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(transferPatience)); err != nil {
		return err
	}
	var seed [8]byte
	if _, err := io.ReadFull(c, seed[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(seed[:])
	if _, err := c.Write(chance(n)); err != nil {
		return err
	}
	got := make([]byte, blockSize)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, chance(n+1)) {
		return errors.New("other bytes came")
	}
	_, err := c.Write([]byte{1})
	return err
}

const transferPatience = 60 * time.Second // for what should take a second

// transfer is the other end of answer.
func transfer(c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(transferPatience)); err != nil {
		return err
	}
	n := rand.Uint64()
	if _, err := c.Write(binary.LittleEndian.AppendUint64(nil, n)); err != nil {
		return err
	}
	got := make([]byte, blockSize)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, chance(n)) {
		return errors.New("other bytes came")
	}
	if _, err := c.Write(chance(n + 1)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, got[:1])
	return err
}

// A crowd transfers from a to b again and again, over conns that each have a few transfers' time.
type crowd struct {
	failed, done atomic.Int64
	stop         context.CancelFunc
	all          sync.WaitGroup
}

// newCrowd has n begin for each of the dialers, to their addresses.
func newCrowd(t *trial, n int, to map[string]proxy.Dialer) *crowd {
	c := new(crowd)
	var ctx context.Context
	ctx, c.stop = context.WithCancel(t.ctx)
	for addr, d := range to {
		for range n {
			c.all.Go(func() { // ends with ctx
				for ctx.Err() == nil {
					conn, err := d.Dial("tcp", addr)
					if err == nil {
						err = transfer(conn)
					}
					if err != nil {
						t.say("a transfer to %s failed: %v", addr, err)
						c.failed.Add(1)
						pause(ctx)
					} else {
						c.done.Add(1)
					}
				}
			})
		}
	}
	return c
}

// pause keeps what fails at once from failing very often.
func pause(ctx context.Context) {
	p := time.NewTimer(time.Second)
	defer p.Stop()
	select {
	case <-p.C:
	case <-ctx.Done():
	}
}

// more waits until so many more transfers are done than now.
func (c *crowd) more(ctx context.Context, n int64) error {
	now := c.done.Load()
	return until(ctx, 2*time.Minute, fmt.Sprintf("%d more transfers", n), func() error {
		if done := c.done.Load() - now; done < n {
			return fmt.Errorf("%d are done, and %d have failed", done, c.failed.Load())
		}
		return nil
	})
}

// end has them end what they do.
func (c *crowd) end() {
	c.stop()
	c.all.Wait()
}
