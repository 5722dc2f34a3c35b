//go:build !race

package dht_test

const nodesAtOnce = 50
