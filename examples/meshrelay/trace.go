package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// newTraces returns what has the requests of a handler traced: nothing, unless there is a collector to tell.
func (r *relay) newTraces(ctx context.Context, s *traceSettings) (func(name string, h http.Handler) http.Handler, error) {
	if s.Endpoint == "" {
		return func(_ string, h http.Handler) http.Handler { return h }, nil
	}
	at, err := url.JoinPath(s.Endpoint, "v1/traces") // OTLP, section 'Endpoint URLs for OTLP/HTTP'
	if err != nil {
		return nil, fmt.Errorf("trace.otlp-endpoint: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { r.log.Warn("traces", "err", err) }))
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(at))
	if err != nil {
		return nil, fmt.Errorf("trace.otlp-endpoint: %w", err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(resource.NewSchemaless(attribute.String("service.name", "meshrelay"))))
	r.closers = append(r.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), traceGoodbye)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			r.log.Warn("the last traces are lost", "err", err)
		}
		return nil
	})
	return func(name string, h http.Handler) http.Handler {
		return otelhttp.NewHandler(h, name, otelhttp.WithTracerProvider(provider))
	}, nil
}

// traceGoodbye bounds the wait for the collector at the end.
const traceGoodbye = 3 * time.Second
