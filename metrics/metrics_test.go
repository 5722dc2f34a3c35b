package metrics_test

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/metrics"
	"github.com/splitmesh/splitmesh/splitter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t testing.TB, n *mesh.Node) *mesh.Node {
	t.Helper()
	t.Cleanup(func() { n.Close() })
	if err := n.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

// scrape is what Prometheus would read of a node: text, parsed.
func scrape(t testing.TB, n *mesh.Node) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewCollector(n))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value sums a family's series that have the labels.
func value(f *dto.MetricFamily, labels ...string) (sum float64) {
	for _, m := range f.GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// TestCollector: what a relay and a client show while a circuit carries a conn.
func TestCollector(t *testing.T) {
	loopback := multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")
	relay := start(t, &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{loopback}, Relay: &mesh.RelayConfig{MaxCircuits: 1}})
	server := start(t, &mesh.Node{Bootstrap: relay.Addrs()})
	l, err := server.Listen("echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.WaitReserved(within(t), 1); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	client := start(t, &mesh.Node{Bootstrap: relay.Addrs()})
	dial := func(n *mesh.Node) (io.ReadWriteCloser, error) {
		return (&mesh.Dialer{Node: n, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}).Dial(within(t), l.Addr().String())
	}
	c, err := dial(client)
	if err != nil {
		t.Fatal(err)
	}
	const size = 300_000
	go c.Write(make([]byte, size))
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(start(t, &mesh.Node{Bootstrap: relay.Addrs()})); err == nil {
		t.Error("a circuit over the limit")
	}
	at, from := scrape(t, relay), scrape(t, client)
	for _, tt := range []struct {
		of       map[string]*dto.MetricFamily
		name     string
		labels   []string
		min, max float64
	}{
		{at, "splitmesh_relay_circuits", nil, 1, 1},
		{at, "splitmesh_relay_reservations", nil, 1, 1},
		{at, "splitmesh_relay_bytes_total", nil, 2 * size, 3 * size},
		{at, "splitmesh_relay_refused_total", []string{"limit=max_circuits"}, 1, 100},
		{at, "splitmesh_relay_refused_total", []string{"limit=allow"}, 0, 0},
		{at, "splitmesh_sessions", nil, 2, 3},
		{from, "splitmesh_sessions", nil, 2, 2},
		{from, "splitmesh_paths", []string{"state=active", "via=relay"}, 1, 1},
		{from, "splitmesh_paths", []string{"state=active", "via=direct"}, 1, 1},
		{from, "splitmesh_peers", []string{"state=up"}, 2, 2},
		{from, "splitmesh_sent_bytes_total", nil, 2 * size, 3 * size}, // in two sessions: one within the other
		{from, "splitmesh_received_bytes_total", nil, 2 * size, 3 * size},
		{from, "splitmesh_relay_circuits", nil, 0, 0},
	} {
		if got := value(tt.of[tt.name], tt.labels...); got < tt.min || got > tt.max {
			t.Errorf("%s%v = %v, want %v to %v", tt.name, tt.labels, got, tt.min, tt.max)
		}
	}
	id := client.ID().String()
	for name, f := range at {
		if strings.Contains(f.String(), id) || len(f.GetMetric()) > 8 {
			t.Errorf("%s names a peer, or has too many series: %v", name, f)
		}
	}
	// A counter never falls, also when the session that it was counted in ends.
	before := value(scrape(t, relay)["splitmesh_received_bytes_total"])
	relay.Disconnect(client.ID())
	if after := value(scrape(t, relay)["splitmesh_received_bytes_total"]); after < before {
		t.Errorf("%v bytes received, and %v before", after, before)
	}
}

// TestNames: the collector keeps the rules of names, and docs/METRICS.md and the package comment list what there is.
func TestNames(t *testing.T) {
	n := start(t, new(mesh.Node))
	if problems, err := testutil.CollectAndLint(metrics.NewCollector(n)); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	names := make(map[string]bool)
	for name := range scrape(t, n) {
		names[name] = true
	}
	word := regexp.MustCompile(`splitmesh_[a-z_]+[a-z]`)
	for _, file := range []string{"metrics.go", "../docs/METRICS.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range names {
			if !bytes.Contains(text, []byte(name)) {
				t.Errorf("%s does not tell of %s", file, name)
			}
		}
		if file != "metrics.go" {
			// Those of meshrelay are its own.
			mine, _, _ := bytes.Cut(text, []byte("## meshrelay"))
			for _, name := range word.FindAllString(string(mine), -1) {
				if !names[name] {
					t.Errorf("%s tells of %s, which is not there", file, name)
				}
			}
		}
	}
}

// TestLimits: there is a series for each field of mesh.RelayConfig that refuses, also while it has refused nothing.
func TestLimits(t *testing.T) {
	told := make(map[string]bool)
	for _, m := range scrape(t, start(t, new(mesh.Node)))["splitmesh_relay_refused_total"].GetMetric() {
		told[m.GetLabel()[0].GetValue()] = true
	}
	word := regexp.MustCompile(`([a-z])([A-Z])`)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[mesh.RelayConfig]()) {
		label := strings.ToLower(word.ReplaceAllString(f.Name, "${1}_$2"))
		// What a circuit may carry ends one that is there.
		if refuses := strings.HasPrefix(f.Name, "Max") && f.Name != "MaxCircuitBytes" || f.Name == "Allow"; refuses != told[label] {
			t.Errorf("%s: told of: %v", f.Name, told[label])
		}
	}
}
