// Package metrics shows a node to Prometheus.
//
//	node := &mesh.Node{ /* … */ }
//	prometheus.MustRegister(metrics.NewCollector(node))
//	http.Handle("/metrics", promhttp.Handler())
//
// It is a module of its own, so that who does not scrape does not link Prometheus.
//
// What the package promises: a scrape asks the node once and changes nothing; names and labels stay; and there are as many
// series as there are words for states and limits, however many peers there are, for no label says who a peer is.
//
//	splitmesh_sessions                  gauge    sessions with peers
//	splitmesh_sessions_pathless         gauge    of these, those that wait for a path
//	splitmesh_streams                   gauge    streams in them: conns, and circuits at a relay
//	splitmesh_paths{state,via}          gauge    paths; state: probing, active, backup, late; via: direct, relay
//	splitmesh_peers{state}              gauge    peers known; state: up, down
//	splitmesh_sent_bytes_total          counter  bytes sent in sessions, those that ended included
//	splitmesh_received_bytes_total      counter  bytes received in sessions, likewise
//	splitmesh_resent_bytes_total        counter  of the bytes sent, those that another path had carried before
//	splitmesh_reservations              gauge    relays that forward to this node
//	splitmesh_unpublished               gauge    1 when a directory did not take the node's record, or its name
//	splitmesh_relay_reservations        gauge    peers to which this node, a relay, forwards
//	splitmesh_relay_circuits            gauge    circuits that it carries
//	splitmesh_relay_bytes_total         counter  bytes that circuits have carried, both ways together
//	splitmesh_relay_refused_total{limit} counter  requests refused, by the field of mesh.RelayConfig; allow: RelayConfig.Allow
//
// The counters of bytes follow the sessions. What circuits carried at a relay is in the sessions with both their ends too:
// received from one, sent to the other.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/splitmesh/splitmesh/mesh"
)

// A source is what of a node is shown.
type source interface {
	Stats() mesh.Stats
	Peers() []mesh.PeerHealth
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("splitmesh_"+name, help, labels, nil)
}

var (
	sessions          = describe("sessions", "Sessions with peers.")
	pathless          = describe("sessions_pathless", "Sessions that wait for a path.")
	streams           = describe("streams", "Streams in the sessions: conns, and circuits at a relay.")
	paths             = describe("paths", "Paths of the sessions, by their state and by whether a relay carries them.", "state", "via")
	peers             = describe("peers", "Peers known, by whether there is a path to them.", "state")
	sent              = describe("sent_bytes_total", "Bytes sent in sessions, those that ended included.")
	received          = describe("received_bytes_total", "Bytes received in sessions, those that ended included.")
	resent            = describe("resent_bytes_total", "Bytes sent that another path had carried before.")
	reservations      = describe("reservations", "Relays that forward to this node.")
	unpublished       = describe("unpublished", "1 when a directory did not take the node's record, or its name.")
	relayReservations = describe("relay_reservations", "Peers to which this relay forwards.")
	relayCircuits     = describe("relay_circuits", "Circuits that this relay carries.")
	relayBytes        = describe("relay_bytes_total", "Bytes that circuits have carried, both ways together.")
	relayRefused      = describe("relay_refused_total", "Requests that this relay refused, by the limit that forbade them.", "limit")
)

// states are those of paths that live.
var states = []mesh.PathState{mesh.PathProbing, mesh.PathActive, mesh.PathBackup, mesh.PathLate}

// limits are the fields of mesh.RelayConfig that refuse, and how they are labelled.
var limits = map[string]string{
	"MaxReservations": "max_reservations", "MaxCircuits": "max_circuits", "MaxCircuitsPerPeer": "max_circuits_per_peer",
	"MaxCircuitsPerNetwork": "max_circuits_per_network", "Allow": "allow",
}

type collector struct{ node source }

// NewCollector returns a collector for a node, which it asks at each scrape.
func NewCollector(node *mesh.Node) prometheus.Collector { return collector{node} }

// Describe implements [prometheus.Collector].
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		sessions, pathless, streams, paths, peers, sent, received, resent, reservations, unpublished,
		relayReservations, relayCircuits, relayBytes, relayRefused,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(out chan<- prometheus.Metric) {
	value := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	st := c.node.Stats()
	type kind struct {
		state mesh.PathState
		via   string
	}
	waiting, conns, ways := 0, 0, make(map[kind]int)
	for i := range st.Sessions {
		s := &st.Sessions[i]
		conns += s.Streams
		if !s.PathlessSince.IsZero() {
			waiting++
		}
		for j := range s.Paths {
			via := "direct"
			if !s.Paths[j].Relay.IsZero() {
				via = "relay"
			}
			ways[kind{s.Paths[j].State, via}]++
		}
	}
	value(sessions, gauge, float64(len(st.Sessions)))
	value(pathless, gauge, float64(waiting))
	value(streams, gauge, float64(conns))
	for _, state := range states {
		for _, via := range []string{"direct", "relay"} {
			value(paths, gauge, float64(ways[kind{state, via}]), state.String(), via)
		}
	}
	known := map[bool]int{}
	for _, p := range c.node.Peers() {
		known[p.Up]++
	}
	value(peers, gauge, float64(known[true]), "up")
	value(peers, gauge, float64(known[false]), "down")
	value(sent, counter, float64(st.Sent))
	value(received, counter, float64(st.Received))
	value(resent, counter, float64(st.ReSent))
	value(reservations, gauge, float64(len(st.Reservations)))
	lacking := 0.
	if st.Unpublished != nil {
		lacking = 1
	}
	value(unpublished, gauge, lacking)
	value(relayReservations, gauge, float64(st.Relay.Reservations))
	value(relayCircuits, gauge, float64(st.Relay.Circuits))
	value(relayBytes, counter, float64(st.Relay.Bytes))
	for field, label := range limits {
		value(relayRefused, counter, float64(st.Relay.Refused[field]), label)
	}
}
