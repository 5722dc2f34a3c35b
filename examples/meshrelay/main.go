// Meshrelay is a relay, a server of the distributed hash table and, if it is told to be, a registry over HTTP: what a mesh
// needs of somebody with a public address.
//
//	meshrelay run --node.listen /ip4/0.0.0.0/tcp/443/wss --tls.acme-domains relay.example.org --registry.serve site
//
// Members and strangers come to one port. Who brings no opening that the node knows is answered by an ordinary site.
//
// Read settings.go, what there is to say; relay.go, the program's life; site.go, the port that all share; access.go, who
// may; tls.go, registry.go, monitor.go and trace.go, the parts; admin.go, what its owner asks.
package main

import (
	"os"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // a container of nothing but this program has no roots of its own

	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

func main() { os.Exit(newProgram().Main()) }

func newProgram() *program.Program {
	s := defaults()
	return &program.Program{
		Name: "meshrelay", Short: "Relay, DHT server and registry of a splitmesh network",
		Long: "It carries circuits between peers that can't reach each other, holds no key of what they carry, and dials nobody\n" +
			"for them. SIGHUP has it read its settings again; SIGTERM has its peers move to other relays before it ends.",
		Settings: s, Log: &s.Log,
		Commands: func(a *program.App) []*cobra.Command {
			return append([]*cobra.Command{a.WithSettings(&cobra.Command{
				Use: "run", Short: "Run the relay until it is told to end",
				Example: "  meshrelay run --node.listen /ip4/0.0.0.0/tcp/4001/ws",
				RunE:    func(c *cobra.Command, _ []string) error { return run(c.Context(), a, s) },
			}), doctor.Command(a, &s.Node)}, adminCommands(a)...)
		},
		Unit: &program.Unit{Run: "run", Reload: true, Capabilities: "CAP_NET_BIND_SERVICE"},
	}
}
