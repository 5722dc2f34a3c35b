package forward

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// MaxConns is how many conns one listener has at once.
const MaxConns = 1024

// Serve hands each conn that l accepts to handle, which closes it, until ctx is done or l fails. Of over limit at once
// the newest are closed, and of a peer of the mesh already those over three quarters of it, so that there is room for the
// others. It closes l, and returns when the last handle has.
func Serve(ctx context.Context, l net.Listener, limit int, log *slog.Logger, handle func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var handles sync.WaitGroup
	defer handles.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	free := make(chan struct{}, limit)
	shares := shares{most: limit - limit/4, of: make(map[identity.ID]int)}
	full := full{limit: limit, log: log}
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !again(ctx, err) {
				l.Close()
				return err
			}
			continue
		}
		peer := Caller(c)
		if !shares.take(peer) {
			reset(c)
			full.tell(l.Addr())
			continue
		}
		select {
		case free <- struct{}{}:
			handles.Go(func() {
				defer func() {
					<-free
					shares.release(peer)
				}()
				handle(ctx, c)
			})
		default:
			shares.release(peer)
			reset(c)
			full.tell(l.Addr())
		}
	}
}

// shares counts the conns of peers. The zero ID is nobody in particular.
type shares struct {
	most int
	mu   sync.Mutex // guards of
	of   map[identity.ID]int
}

func (s *shares) take(id identity.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !id.IsZero() && s.of[id] == s.most {
		return false
	}
	s.of[id]++
	return true
}

func (s *shares) release(id identity.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[id]--; s.of[id] == 0 {
		delete(s.of, id)
	}
}

// full tells now and then that conns are closed because there are too many. It is for one goroutine.
type full struct {
	limit int
	log   *slog.Logger
	told  time.Time
}

func (f *full) tell(at net.Addr) {
	if now := time.Now(); now.Sub(f.told) > time.Minute {
		f.told = now
		f.log.Warn("too many conns at once: the newest are closed", "at", at, "limit", f.limit)
	}
}

// again waits a little if accepting may yet succeed, as when there are too many files open.
func again(ctx context.Context, err error) bool {
	if e, ok := errors.AsType[net.Error](err); !ok || errors.Is(err, net.ErrClosed) || !e.Temporary() { //nolint:staticcheck // what net/http asks, too
		return false
	}
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
	return true
}

// A Limited is a TCP listener with so many conns at once at most; it closes the newest over that.
type Limited struct {
	*net.TCPListener
	free chan struct{}
	full full
}

// Limit bounds the conns of a listener.
func Limit(l *net.TCPListener, limit int, log *slog.Logger) *Limited {
	return &Limited{l, make(chan struct{}, limit), full{limit: limit, log: log}}
}

// Accept implements net.Listener, but is for one goroutine at a time.
func (l *Limited) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{TCPConn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			reset(c)
			l.full.tell(l.Addr())
		}
	}
}

type limitedConn struct {
	*net.TCPConn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}
