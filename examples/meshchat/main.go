// Meshchat is a chat in the terminal over the mesh: people, rooms and files, with no server. Its README shows it at work.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
)

// settings are all that can be set.
type settings struct {
	Node        node.Settings `name:"node"`
	Nick        string        `name:"nick" help:"what you call yourself to those whom you meet"`
	Files       string        `name:"files" help:"directory of files that were received; default files in the state directory"`
	AcceptFiles config.Size   `name:"accept-files" help:"size up to which files of contacts are taken without asking; 0: none"`
	RelayedOnly bool          `name:"relayed-only" help:"never connect directly, so that contacts don't learn your address; takes two relays at least, and nothing in node.listen"`
	Paths       int           `name:"paths" help:"number of relays to split over, 1 to 8; 0 is 3"`
	Log         program.Log   `name:"log"`
}

// Validate implements config.Validator.
func (s *settings) Validate() (out []config.Problem) {
	if len(s.Nick) > protocol.MaxName || program.Printable(s.Nick) != s.Nick {
		out = append(out, config.Problem{Path: "nick", Text: "it is longer than 64 bytes, or has characters that don't print"})
	}
	if s.RelayedOnly && len(s.Node.Listen) > 0 {
		out = append(out, config.Problem{Path: "relayed-only", Text: "node.listen has addresses, which others connect to directly: take them out, or set this to false"})
	}
	if s.Paths < 0 || s.Paths > 8 {
		out = append(out, config.Problem{Path: "paths", Text: fmt.Sprintf("%d is not between 0 and 8", s.Paths)})
	}
	return out
}

func newProgram() *program.Program {
	s := &settings{Node: node.Default(), Log: program.DefaultLog()}
	return &program.Program{
		Name: "meshchat", Short: "A chat in the terminal over the mesh",
		Long: `Without a command it runs on the screen. "meshchat invite" makes a string to be sent to somebody, who takes it with
"meshchat join STRING"; then both are contacts. What is said while somebody is away waits, sealed on your disk, until he
is back.`,
		Settings: s, Log: &s.Log, Unit: &program.Unit{Run: "run --background"},
		Default:  func(ctx context.Context, a *program.App) error { return run(ctx, a, s, onScreen) },
		Commands: func(a *program.App) []*cobra.Command { return append(commands(a, s), doctorCommand(a, s)) },
	}
}

// filesDir is where received files go.
func (s *settings) filesDir(state *program.State) (string, error) {
	if s.Files == "" {
		return state.Path("files"), nil
	}
	return filepath.Abs(s.Files)
}

func main() { os.Exit(newProgram().Main()) }
