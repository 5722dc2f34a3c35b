// Command meshvpn connects machines by the mesh.
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
		Long:     "A machine that is up has an address that follows from its key, and reaches others at theirs, over relays that see\nneither who they are nor what they say. What others may reach is what a rule allows.",
		Settings: s, Log: &s.Log,
		Unit: &program.Unit{Run: "up", Capabilities: "CAP_NET_ADMIN CAP_NET_BIND_SERVICE", Devices: []string{"/dev/net/tun"}},
		Commands: func(a *program.App) []*cobra.Command {
			return []*cobra.Command{upCommand(a, s), downCommand(a), statusCommand(a), pingCommand(a)}
		},
	}
}
