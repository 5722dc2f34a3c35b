package session

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// damaged is a conn that hands over garbage behind the first large frame, and whose
// Close waits, as one does that says goodbye.
type damaged struct {
	net.Conn
	done bool
	gone chan struct{}
	once sync.Once
}

func (d *damaged) ReadBuf() ([]byte, *buf.Buf, error) {
	b := buf.Get(buf.Max)
	n, err := d.Conn.Read(b.B[:buf.Max/2])
	if n == 0 {
		b.Release()
		return nil, nil, err
	}
	if n > 1000 && !d.done {
		d.done = true
		clear(b.B[n : n+100])
		n += 100
	}
	return b.B[:n], b, nil
}

func (d *damaged) Close() error {
	<-d.gone
	return d.Conn.Close()
}

func (d *damaged) release() { d.once.Do(func() { close(d.gone) }) }

// TestAnnouncedBeforeDeath: readers are told of what came intact before a damaged
// frame, however long it takes to close the path's conn.
func TestAnnouncedBeforeDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		ca, cb := net.Pipe()
		d := &damaged{Conn: cb, gone: make(chan struct{})}
		t.Cleanup(d.release)
		p.join(t, 0, ca, d)
		here, there := p.stream(t)
		here.Write([]byte("x"))
		io.ReadFull(there, make([]byte, 1))

		got := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(there, make([]byte, 2000))
			got <- err
		}()
		synctest.Wait()
		here.Write(make([]byte, 2000))
		synctest.Wait()
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the reader waits for what has arrived")
			d.release()
			<-got
		}
	})
}
