//go:build race

package dht

const underRace = true

// NodesAtOnce: under the race detector fifty nodes keep two cores so busy that they time out.
const NodesAtOnce = 16
