package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
)

// maxHeader bounds the header of a request and of an answer.
const maxHeader = 64 << 10

// HTTP is a proxy for those who connect to l and know the password, until ctx is done. It knows CONNECT, and passes on
// requests for http URLs.
func HTTP(ctx context.Context, l *net.TCPListener, d *Dialer, password Password, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	var handles sync.WaitGroup // the server does not wait for those that have taken its conn
	defer handles.Wait()
	defer cancel()
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, addr string) (net.Conn, error) { return d.dialAddr(ctx, addr) },
		DisableCompression: true, MaxIdleConns: 64, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxHeader,
	}
	defer t.CloseIdleConnections()
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }, Transport: t, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { fail(w, err) },
	}
	s := &http.Server{
		ReadHeaderTimeout: forward.Patience, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader, ErrorLog: pass.ErrorLog,
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handles.Add(1)
			defer handles.Done()
			switch {
			case !password.sent(r):
				w.Header().Set("Proxy-Authenticate", `Basic realm="meshvpn"`)
				http.Error(w, "meshvpn: this proxy asks for the password that it was given with --password-file", http.StatusProxyAuthRequired)
			case r.Method == http.MethodConnect:
				if err := tunnel(ctx, w, r, d); err != nil && !errors.Is(err, net.ErrClosed) {
					log.Debug("http connect", "err", err)
				}
			case r.URL.Scheme == "http" && r.URL.Host != "":
				pass.ServeHTTP(w, r)
			default:
				http.Error(w, "meshvpn: this is a proxy: it takes CONNECT, and requests for http:// URLs", http.StatusBadRequest)
			}
		}),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(forward.Limit(l, forward.MaxConns, log)) }() // ends with Shutdown
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// Requests end with ctx; a conn on which none has come yet would be waited for.
	brief, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if s.Shutdown(brief) != nil {
		s.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// dialAddr is Dial for "host:port".
func (d *Dialer) dialAddr(ctx context.Context, addr string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%.40q is no port", text)
	}
	return d.Dial(ctx, host, uint16(port))
}

// tunnel answers CONNECT (RFC 9110, section 9.3.6) and carries bytes.
func tunnel(ctx context.Context, w http.ResponseWriter, r *http.Request, d *Dialer) error {
	far, err := d.dialAddr(r.Context(), r.Host)
	if err != nil {
		fail(w, err)
		return err
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		fail(w, err)
		return err
	}
	_ = near.SetDeadline(time.Time{}) // it fails for what is closed, as Write will
	_, err = near.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	if err = errors.Join(err, early(buffered.Reader, far)); err != nil {
		near.Close()
		far.Close()
		return err
	}
	return forward.Pipe(ctx, near, far)
}

// fail answers with what went wrong.
func fail(w http.ResponseWriter, err error) {
	status := map[failure]int{
		unreachable: http.StatusBadGateway, forbidden: http.StatusForbidden, refused: http.StatusBadGateway, timeout: http.StatusGatewayTimeout,
	}
	text := "meshvpn: " + program.Printable(err.Error())
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "meshvpn: the peer has ended the conn without an answer: does the server run that it publishes? (" + program.Printable(err.Error()) + ")"
	}
	http.Error(w, text, status[failureOf(err)])
}
