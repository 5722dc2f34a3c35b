package main

import (
	"encoding/hex"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/registry"
)

// TestDHT: two peers who know nobody but the relay find each other, and the relay, in its hash table: in a public network
// and in a private one.
func TestDHT(t *testing.T) {
	key := write(t, filepath.Join(t.TempDir(), "network-key"), hex.EncodeToString(make([]byte, 31))+"07\n")
	for name, keyFile := range map[string]string{"public": "", "private": key} {
		t.Run(name, func(t *testing.T) {
			p := relayProcess(t, overWS, "--node.network-key-file", keyFile)
			boot := p.addr().String()
			open := func(listen ...config.Addr) *node.Node {
				s := node.Settings{DHT: true, Bootstrap: []string{boot}, NetworkKeyFile: keyFile, Listen: listen}
				n, err := node.Open(within(t), &s, &program.State{Dir: t.TempDir()}, slog.New(slog.DiscardHandler), nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { n.Close() })
				return n
			}
			server := open()
			echo(t, server.Node, 1)
			client := open()
			until(t, "the record of the server is found", func() bool {
				r, err := client.DHT.Lookup(within(t), server.ID())
				return err == nil && len(r.Addrs) == 1
			})
			until(t, "the relay is found by what it does", func() bool {
				found, err := client.DHT.Providers(within(t), registry.CapRelay)
				return err == nil && len(found) == 1
			})
		})
	}
}
