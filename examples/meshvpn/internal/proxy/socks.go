package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
)

// SOCKS serves SOCKS5 to those who connect to l and know the password (RFC 1929), until ctx is done. It knows CONNECT.
func SOCKS(ctx context.Context, l net.Listener, d *Dialer, password Password, log *slog.Logger) error {
	return forward.Serve(ctx, l, forward.MaxConns, log, func(ctx context.Context, c net.Conn) {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		options := []socks5.Option{
			socks5.WithResolver(noResolver{}),
			socks5.WithConnectHandle(func(_ context.Context, _ io.Writer, r *socks5.Request) error { return connect(ctx, c, r, d) }),
			socks5.WithBindHandle(noCommand),
			socks5.WithAssociateHandle(noCommand),
		}
		if password != "" {
			options = append(options, socks5.WithCredential(password))
		}
		s := socks5.NewServer(options...)
		_ = c.SetDeadline(time.Now().Add(forward.Patience)) // it fails for what is closed, as Read will
		if err := s.ServeConn(c); err != nil && !errors.Is(err, net.ErrClosed) {
			log.Debug("socks", "err", err)
		}
	})
}

// noResolver leaves names as they are: they are looked up in the mesh, or by the exit.
type noResolver struct{}

func (noResolver) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

func noCommand(_ context.Context, w io.Writer, _ *socks5.Request) error {
	return socks5.SendReply(w, statute.RepCommandNotSupported, nil)
}

// nowhere is the address that we answer with: that of a conn in the mesh has no form in SOCKS.
var nowhere = &net.TCPAddr{IP: net.IPv4zero}

// connect dials what the request names, answers, and carries bytes.
func connect(ctx context.Context, c net.Conn, r *socks5.Request, d *Dialer) error {
	_ = c.SetDeadline(time.Time{})
	host := r.DestAddr.FQDN // which may be empty
	if r.DestAddr.AddrType != statute.ATYPDomain {
		host = r.DestAddr.IP.String()
	}
	far, err := d.Dial(ctx, host, uint16(r.DestAddr.Port))
	if err != nil {
		replies := map[failure]uint8{
			unreachable: statute.RepHostUnreachable, forbidden: statute.RepRuleFailure, refused: statute.RepConnectionRefused, timeout: statute.RepTTLExpired,
		}
		return errors.Join(err, socks5.SendReply(c, replies[failureOf(err)], nil))
	}
	if err := errors.Join(socks5.SendReply(c, statute.RepSuccess, nowhere), early(r.Reader, far)); err != nil {
		far.Close()
		return err
	}
	return forward.Pipe(ctx, c, far)
}

// early passes on what came with the request, of who did not wait for the answer.
func early(r io.Reader, far net.Conn) error {
	b, ok := r.(*bufio.Reader)
	if !ok || b.Buffered() == 0 {
		return nil
	}
	_, err := io.CopyN(far, b, int64(b.Buffered()))
	return err
}
