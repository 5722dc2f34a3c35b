package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Services of the server: the port of a URL, and a name.
const (
	httpService = "80"
	grpcService = "grpc"
)

// servers are an HTTP and a gRPC server.
type servers struct {
	http   *http.Server
	grpc   *grpc.Server
	health *health.Server
	ended  chan error // what both Serve calls returned
}

// serve listens on two services of the server.
func serve(ctx context.Context, w *world) (*servers, error) {
	hl, err := w.listen(ctx, httpService)
	if err != nil {
		return nil, err
	}
	gl, err := w.listen(ctx, grpcService)
	if err != nil {
		hl.Close()
		return nil, err
	}
	pages := http.NewServeMux()
	pages.HandleFunc("GET /", greet)
	pages.HandleFunc("POST /echo", echo)
	s := &servers{
		http:   &http.Server{Handler: pages, ReadHeaderTimeout: 10 * time.Second},
		grpc:   grpc.NewServer(),
		health: health.NewServer(),
		ended:  make(chan error, 2),
	}
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	// Both end with shutdown, or when the node is closed.
	go func() { s.ended <- s.http.Serve(hl) }()
	go func() { s.ended <- s.grpc.Serve(gl) }()
	return s, nil
}

// greet tells the caller who it is.
func greet(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello, %s\n", r.RemoteAddr)
}

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body) // a caller that is gone shows in nothing else
}

// shutdown lets the calls under way end, and returns when both servers have.
func (s *servers) shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.health.Shutdown() // ends the calls of those who watch
	s.grpc.GracefulStop()
	for range cap(s.ended) {
		if e := <-s.ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e) // nil from gRPC
		}
	}
	return err
}
