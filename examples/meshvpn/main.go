// Meshvpn connects machines by the mesh: with a network device, or without root by proxies and forwarded ports.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

func main() { os.Exit(newProgram().Main()) }

func newProgram() *program.Program {
	s := defaults()
	return &program.Program{
		Name: "meshvpn", Short: "Reach your machines from everywhere, by their keys",
		Long: "With up a machine has an address that follows from its key, and reaches others at theirs; that takes root. Without it\n" +
			"serve publishes a port, and proxy and forward reach it. Relays on the way see who speaks, and not what is said.\n" +
			"What others may reach is what you allow. Two machines get to know each other by invite and join.",
		Settings: s, Log: &s.Log,
		Unit: &program.Unit{Run: "up", Reload: true, Capabilities: "CAP_NET_ADMIN CAP_NET_BIND_SERVICE", Devices: []string{"/dev/net/tun"}},
		Commands: func(a *program.App) []*cobra.Command {
			return []*cobra.Command{
				upCommand(a, s), downCommand(a), statusCommand(a), pingCommand(a),
				serveCommand(a, s), proxyCommand(a, s), exitCommand(a, s), forwardCommand(a, s), inviteCommand(a, s), joinCommand(a, s),
				doctorCommand(a, s),
			}
		},
	}
}
