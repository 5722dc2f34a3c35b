package main

import (
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/metrics"
)

// measures are what is shown to Prometheus.
type measures struct {
	all      *prometheus.Registry
	requests *prometheus.CounterVec // to the registry
}

func newMeasures(draining func() bool) *measures {
	m := &measures{
		all: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshrelay_registry_requests_total", Help: "Requests to the registry, by the answer and the method.",
		}, []string{"code", "method"}),
	}
	drains := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meshrelay_draining", Help: "1 when it takes nothing new."}, func() float64 {
		if draining() {
			return 1
		}
		return 0
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "meshrelay_build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": version()},
	})
	build.Set(1)
	m.all.MustRegister(m.requests, drains, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// ofNode adds the node's.
func (m *measures) ofNode(n *mesh.Node) { m.all.MustRegister(metrics.NewCollector(n)) }

// ofCertificates adds when the certificates end.
func (m *measures) ofCertificates(c *certificates) {
	m.all.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meshrelay_certificate_expiry_timestamp_seconds", Help: "When the certificate ends that ends first, in Unix time; 0 when there is none yet.",
	}, func() float64 {
		if at := c.expiry(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	}))
}

// count counts the requests that h answers. The methods that nobody needs are one.
func (m *measures) count(h http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.requests, h)
}

// monitor serves what is looked at from this machine.
func (r *relay) monitor(ctx context.Context, s *monitorSettings) error {
	if s.Listen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case r.draining.Load():
			say(w, http.StatusServiceUnavailable, "draining")
		case !r.ready.Load():
			say(w, http.StatusServiceUnavailable, "starting")
		case r.certs != nil && !time.Now().Before(r.certs.expiry()):
			say(w, http.StatusServiceUnavailable, "no certificate that is valid: see the log")
		default:
			say(w, http.StatusOK, "ready")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.measures.all, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return r.serve(ctx, "monitor", s.Listen, mux)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// serve serves h at an address until close.
func (r *relay) serve(ctx context.Context, what, address string, h http.Handler) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return program.Listening(what, err)
	}
	server := newServer(h, r.log)
	ended := make(chan struct{})
	go func() { // ends with close
		defer close(ended)
		_ = server.Serve(l)
	}()
	r.closers = append(r.closers, func() error {
		err := server.Close()
		<-ended
		return err
	})
	r.log.Info("listening", "what", what, "addr", l.Addr().String())
	return nil
}
