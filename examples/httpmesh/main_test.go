package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/splitmesh/splitmesh/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// overEach runs a test over each kind of conn.
func overEach(t *testing.T, test func(t *testing.T, w *world)) {
	for name, relays := range map[string]int{"direct": 0, "three relays": 3} {
		t.Run(name, func(t *testing.T) {
			w, err := newWorld(t.Context(), relays)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Close)
			test(t, w)
		})
	}
}

// start serves until the test ends.
func start(t *testing.T, w *world) *servers {
	t.Helper()
	s, err := serve(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// browser is an HTTP client, and counts the conns that it dials.
func browser(t *testing.T, w *world) (client *http.Client, site string, dials func() int) {
	var mu sync.Mutex
	n := 0
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		n++
		mu.Unlock()
		return w.dial(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	dials = func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
	return &http.Client{Transport: transport}, "http://" + w.server.ID().String() + ":80", dials
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func TestHTTP(t *testing.T) {
	overEach(t, func(t *testing.T, w *world) {
		start(t, w)
		client, site, dials := browser(t, w)
		got, err := fetch(t.Context(), client, http.MethodGet, site, nil)
		if want := "hello, " + w.client.ID().String() + "\n"; string(got) != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		for i, size := range []int{10 << 20, 1<<20 + 1, 0} {
			body := noise(uint64(i), size)
			if got, err := fetch(t.Context(), client, http.MethodPost, site+"/echo", body); !bytes.Equal(got, body) || err != nil {
				t.Fatalf("%d of %d bytes came back, %v", len(got), len(body), err)
			}
		}
		for range 50 {
			if _, err := fetch(t.Context(), client, http.MethodGet, site, nil); err != nil {
				t.Fatal(err)
			}
		}
		if n := dials(); n != 1 {
			t.Errorf("%d conns for requests that came one after the other", n)
		}
		var all sync.WaitGroup
		for i := range uint64(64) {
			all.Go(func() {
				body := noise(i, 1000*int(i))
				if got, err := fetch(t.Context(), client, http.MethodPost, site+"/echo", body); !bytes.Equal(got, body) || err != nil {
					t.Errorf("%d of %d bytes came back, %v", len(got), len(body), err)
				}
			})
		}
		all.Wait()
		if _, err := fetch(t.Context(), client, http.MethodGet, site+"/nothing/echo", nil); err != nil {
			t.Error(err)
		}
		if _, err := fetch(t.Context(), client, http.MethodPost, site+"/nothing", nil); err == nil || !strings.Contains(err.Error(), "405") {
			t.Error(err)
		}
	})
}

// TestHTTPCallerGoesAway shows that the handler learns it.
func TestHTTPCallerGoesAway(t *testing.T) {
	overEach(t, func(t *testing.T, w *world) {
		l, err := w.listen(t.Context(), httpService)
		if err != nil {
			t.Fatal(err)
		}
		entered, left := make(chan struct{}), make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			close(left)
		})}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		client, site, _ := browser(t, w)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		if _, err := fetch(ctx, client, http.MethodGet, site, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-left
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// TestHTTPShutdown shows that Shutdown waits for the request under way, closes
// the conns that idle, and stops listening.
func TestHTTPShutdown(t *testing.T) {
	overEach(t, func(t *testing.T, w *world) {
		l, err := w.listen(t.Context(), httpService)
		if err != nil {
			t.Fatal(err)
		}
		entered, leave := make(chan struct{}), make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			entered <- struct{}{}
			<-leave
			io.WriteString(w, "served")
		})}
		closing := make(chan struct{})
		server.RegisterOnShutdown(func() { close(closing) })
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		client, site, _ := browser(t, w)
		type answer struct {
			body []byte
			err  error
		}
		answers := make(chan answer, 1)
		go func() {
			body, err := fetch(t.Context(), client, http.MethodGet, site, nil)
			answers <- answer{body, err}
		}()
		<-entered
		down := make(chan error, 1)
		go func() { down <- server.Shutdown(t.Context()) }()
		<-closing
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		close(leave)
		if a := <-answers; string(a.body) != "served" || a.err != nil {
			t.Errorf("%q, %v", a.body, a.err)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if _, err := fetch(t.Context(), client, http.MethodGet, site, nil); !errors.Is(err, mesh.ErrNoService) {
			t.Errorf("%v, want %v", err, mesh.ErrNoService)
		}
	})
}

func TestGRPC(t *testing.T) {
	overEach(t, func(t *testing.T, w *world) {
		l, err := w.listen(t.Context(), grpcService)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var caller net.Addr
		server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			mu.Lock()
			caller = p.Addr
			mu.Unlock()
			return next(ctx, req)
		}))
		states := health.NewServer()
		grpc_health_v1.RegisterHealthServer(server, states)
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		cc, err := connect(w)
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		client := grpc_health_v1.NewHealthClient(cc)

		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				got, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
				if got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING || err != nil {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		all.Wait()
		if a, ok := caller.(mesh.Addr); !ok || a.ID != w.client.ID() {
			t.Errorf("the caller is %v", caller)
		}
		// A request and an answer that take many frames.
		long := strings.Repeat("x", 3<<20)
		if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: long}); status.Code(err) != codes.NotFound {
			t.Error(err)
		}

		watch, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: long})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{
			grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN,
			grpc_health_v1.HealthCheckResponse_SERVING,
			grpc_health_v1.HealthCheckResponse_NOT_SERVING,
			grpc_health_v1.HealthCheckResponse_SERVING,
		} {
			if want != grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN {
				states.SetServingStatus(long, want)
			}
			if got, err := watch.Recv(); got.GetStatus() != want || err != nil {
				t.Fatalf("%v, %v, want %v", got, err, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		second, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil {
			_, err = second.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := second.Recv(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		server.Stop()
		if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), mesh.ErrNoService.Error()) {
			t.Error(err)
		}
	})
}

// TestProgram runs the program.
func TestProgram(t *testing.T) {
	for _, relays := range []string{"0", "3"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-relays", relays}, &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{":80/\n  hello, ", "10485760 bytes went and came back", "Check: SERVING", "Watch: SERVING"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, &out)
			}
		}
	}
	for args, want := range map[string]string{
		"-relays=9": "want 0 to 8", "-relays=x": "-h shows", "file": `"file" is not a flag`,
	} {
		if err := run(t.Context(), []string{args}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) || out.String() != usage {
		t.Error(err, out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(fmt.Errorf("with a context that has ended: %w", err))
	}
}
