//go:build race

package dht_test

// nodesAtOnce: under the race detector fifty nodes keep two cores so busy that they time out.
const nodesAtOnce = 16
