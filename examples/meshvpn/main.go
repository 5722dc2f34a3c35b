// Command meshvpn connects machines by the mesh.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

func main() { os.Exit(newProgram().Main()) }

func newProgram() *program.Program {
	s := &settings{Node: node.Default(), Log: program.DefaultLog()}
	return &program.Program{
		Name: "meshvpn", Short: "Reach your machines from everywhere, by their keys",
		Long:     "What one machine publishes, others reach by names like http://laptop.mesh, over relays that see neither who they are nor\nwhat they say. None of it needs root.",
		Settings: s, Log: &s.Log,
		Commands: func(a *program.App) []*cobra.Command {
			return []*cobra.Command{serveCommand(a, s), proxyCommand(a, s), exitCommand(a, s), forwardCommand(a, s), inviteCommand(a, s), joinCommand(a, s)}
		},
	}
}
