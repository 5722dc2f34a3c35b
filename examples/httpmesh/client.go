package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// browse asks the HTTP server for a greeting, and for 10 MiB back.
func browse(ctx context.Context, w *world, out io.Writer) error {
	transport := &http.Transport{DialContext: w.dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	site := "http://" + w.server.ID().String() + ":" + httpService

	said, err := fetch(ctx, client, http.MethodGet, site+"/", nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "GET %s/\n  %s", site, said)

	body := make([]byte, 10<<20)
	rand.Read(body)
	back, err := fetch(ctx, client, http.MethodPost, site+"/echo", body)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, body) {
		return errors.New("what /echo returned is not what it was sent")
	}
	fmt.Fprintf(out, "POST %s/echo\n  %d bytes went and came back\n", site, len(back))
	return nil
}

// fetch makes one request and returns the body of the answer.
func fetch(ctx context.Context, client *http.Client, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, bytes.TrimSpace(got))
	}
	return got, err
}

// connect makes a gRPC connection over the mesh.
func connect(w *world) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+w.server.ID().String()+":"+grpcService,
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return w.dial(ctx, "mesh", addr) }),
		grpc.WithTransportCredentials(insecure.NewCredentials())) // the mesh has proven who is there, and encrypts
}

// call makes a call, and one whose answers come as a stream.
func call(ctx context.Context, w *world, out io.Writer) error {
	cc, err := connect(w)
	if err != nil {
		return err
	}
	defer cc.Close()
	client := grpc_health_v1.NewHealthClient(cc)
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "gRPC %s\n  Check: %v\n", cc.Target(), answer.GetStatus())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer, err = watch.Recv(); err != nil {
		return err
	}
	fmt.Fprintf(out, "  Watch: %v\n", answer.GetStatus())
	return nil
}
