package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/multiformats/go-multiaddr"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
)

// busy is a relay with a registry that carries a circuit.
func busy(t *testing.T, args ...string) *process {
	p := relayProcess(t, append([]string{overWS, "--registry.serve=site"}, args...)...)
	boot := []multiaddr.Multiaddr{p.addr()}
	server := peerNode(t, &mesh.Node{Bootstrap: boot})
	c, err := relayed(peerNode(t, &mesh.Node{Bootstrap: boot}), 1).Dial(within(t), echo(t, server, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := greet(c); err != nil {
		t.Fatal(err)
	}
	dir := &httpregistry.Client{URL: p.web()}
	if found, err := registry.Providers(within(t), dir, registry.CapRelay); err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return p
}

// web is the URL of its site.
func (p *process) web() string {
	port, err := p.addr().ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		p.t.Fatal(err)
	}
	return "http://127.0.0.1:" + port
}

// get reads a page.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	res, err := client(t, nil).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func value(f *dto.MetricFamily) (sum float64) {
	for _, m := range f.GetMetric() {
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return sum
}

// TestMonitor: what /metrics says is what Prometheus reads, and true.
func TestMonitor(t *testing.T) {
	p := busy(t)
	for path, want := range map[string]string{"/healthz": "alive\n", "/readyz": "ready\n"} {
		if status, body := get(t, p.monitor()+path); status != 200 || body != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	status, text := get(t, p.monitor()+"/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if status != 200 || err != nil {
		t.Fatal(status, err)
	}
	for name, want := range map[string]float64{
		"splitmesh_relay_circuits": 1, "splitmesh_relay_reservations": 1, "splitmesh_sessions": 2, "meshrelay_draining": 0, "meshrelay_build_info": 1,
	} {
		if got := value(all[name]); all[name] == nil || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if value(all["splitmesh_relay_bytes_total"]) == 0 || value(all["meshrelay_registry_requests_total"]) == 0 || value(all["process_resident_memory_bytes"]) == 0 {
		t.Error("nothing carried, asked or used:\n" + text)
	}
	if status, _ := get(t, p.web()+"/metrics"); status != 404 {
		t.Error("strangers read the metrics")
	}
	if n := strings.Count(text, "\n"); n > 400 {
		t.Errorf("%d lines", n)
	}
}

// TestPrometheus has a Prometheus of its own scrape the relay, and asks that.
func TestPrometheus(t *testing.T) {
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("there is no prometheus to run: apt-get install prometheus")
	}
	p := busy(t)
	dir := t.TempDir()
	target := strings.TrimPrefix(p.monitor(), "http://")
	file := write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf("scrape_configs: [{job_name: meshrelay, scrape_interval: 2s, scrape_timeout: 2s, static_configs: [{targets: [%q]}]}]\n", target))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(within(t), binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+at)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	asker := client(t, nil) // one, for Prometheus takes 512 connections at most
	query := func(q string) (values []string) {
		res, err := asker.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(q))
		if err != nil {
			return nil // it is not up yet
		}
		defer res.Body.Close()
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		if json.NewDecoder(res.Body).Decode(&answer) != nil {
			return nil
		}
		for _, r := range answer.Data.Result {
			values = append(values, fmt.Sprint(r.Value[1]))
		}
		return values
	}
	for q, want := range map[string][]string{
		`up{job="meshrelay"}`: {"1"}, `splitmesh_relay_circuits`: {"1"}, `sum(splitmesh_paths{via="direct"})`: {"2"},
		`count(splitmesh_relay_refused_total)`: {"5"}, `meshrelay_registry_requests_total{code="200",method="get"} > bool 0`: {"1"},
	} {
		until(t, q, func() bool { return slices.Equal(query(q), want) })
	}
	t.Logf("PROMETHEUS_QUERIES = 5 (bar >= 5)")
}

// TestTraces: a collector is told of requests to the registry and of the owner's.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	spans := make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in collector.ExportTraceServiceRequest
		b, err := io.ReadAll(r.Body)
		if err != nil || proto.Unmarshal(b, &in) != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range in.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					spans[s.Name]++
				}
			}
		}
	}))
	defer server.Close()
	p := busy(t, "--trace.otlp-endpoint", server.URL, "--drain.timeout=0s")
	if status, out := ask(t, "status", "--state", p.state); status != 0 {
		t.Fatal(out)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 0 {
		t.Errorf("its exit status is %d", status)
	}
	mu.Lock()
	defer mu.Unlock()
	n := 0
	for name := range spans {
		if strings.HasPrefix(name, "registry") || strings.HasPrefix(name, "admin") || strings.HasPrefix(name, "GET") {
			n++
		}
	}
	if n < 2 {
		t.Errorf("spans: %v", spans)
	}
	t.Log(spans)
}
