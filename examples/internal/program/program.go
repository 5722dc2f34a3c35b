// Package program is what the programs of splitmesh have in common: commands that teach, settings from flags, the
// environment and a file, a log, a state directory that one process at a time uses, signals, and exit statuses that mean
// something.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/splitmesh/splitmesh/examples/internal/config"
)

// Exit statuses.
const (
	OK         = 0
	Failed     = 1 // what was asked for did not succeed
	Usage      = 2 // no such command or flag, or an argument that makes no sense
	Settings   = 3 // a setting is wrong; the error says where it stands
	Busy       = 4 // another instance runs, or a port is taken
	Forbidden  = 5 // a privilege is missing
	NotRunning = 6 // the program that was to be asked does not run
	NoSpace    = 7 // the disk is full
)

const exitStatuses = `Exit statuses: 0 it worked; 1 it did not; 2 wrong usage; 3 a setting is wrong; 4 another instance runs, or a port is
taken; 5 a privilege is missing; 6 the program to be asked does not run; 7 the disk is full.`

// An Error is one with an exit status of its own, and maybe a hint at what to do.
type Error struct {
	Status int
	Err    error
	Hint   string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n" + e.Hint
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// A Program is what a program's main makes and runs.
type Program struct {
	// Name is the command's, Short says what it is in a line, Long in some.
	Name, Short, Long string
	// Settings is a pointer to a struct as package config wants it, with the defaults. Log is the one in it.
	Settings any
	Log      *Log
	// Default is what the program does without a command, with the settings as flags; nil: it says what it can do.
	Default func(ctx context.Context, a *App) error
	// Commands adds the program's own.
	Commands func(*App) []*cobra.Command
	// Unit is what systemd is to do; nil: the program has no service.
	Unit *Unit
}

// An App is a program that runs.
type App struct {
	Program  *Program
	Settings *config.Settings
	// Log is made when the settings are loaded.
	Log *slog.Logger
	// Out is where results go, Err where errors and the log go, In where answers come from.
	In       io.Reader
	Out, Err io.Writer

	file  string // of settings
	state string
	level slog.LevelVar
}

// Main runs the program with the arguments of the process and returns the exit status. The context of commands ends at
// the first SIGINT or SIGTERM; the second ends the process.
func (p *Program) Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal is deadly again
	return p.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Run runs the program with the arguments and returns the exit status.
func (p *Program) Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	app := &App{Program: p, In: in, Out: out, Err: errs}
	root, err := app.root()
	if err != nil {
		fmt.Fprintf(errs, "%s: %v\n", p.Name, err)
		return Failed
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errs, "%s: %s\n", p.Name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return Status(err)
	}
	return OK
}

// Status is the exit status that an error means.
func Status(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	switch {
	case err == nil:
		return OK
	case errors.Is(err, syscall.EADDRINUSE):
		return Busy
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	case errors.Is(err, fs.ErrPermission):
		return Forbidden
	}
	return Failed
}

func usage(err error) error { return &Error{Status: Usage, Err: err} }

// root is the command without which the others are nothing.
func (a *App) root() (*cobra.Command, error) {
	p := a.Program
	var err error
	if a.Settings, err = config.New(p.Name, p.Settings); err != nil {
		return nil, err
	}
	root := &cobra.Command{
		Use: p.Name, Short: p.Short, Long: p.Short + ".\n\n" + p.Long + "\n\n" + a.whereSettingsAre() + exitStatuses,
		SilenceErrors: true, SilenceUsage: true, Version: version(), Args: cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w\nSee %s --help", err, c.CommandPath()))
	})
	root.PersistentFlags().StringVar(&a.file, "config", "", "file of settings (default "+p.Name+".yaml in the user's configuration directory, or of root in /etc, if it is there)")
	root.PersistentFlags().StringVar(&a.state, "state", "", "directory of what the program keeps (default "+p.Name+" in the user's state directory, or of root in /var/lib)")
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version, and what it was built of", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", p.Name, version())
			return err
		},
	}, a.configCommand(), p.docsCommand())
	if p.Default != nil {
		root.RunE = func(c *cobra.Command, _ []string) error { return p.Default(c.Context(), a) }
		a.WithSettings(root)
	}
	if p.Unit != nil {
		root.AddCommand(a.unitCommand())
	}
	if p.Commands != nil {
		root.AddCommand(p.Commands(a)...)
	}
	for c := range commands(root) {
		if c.Args == nil {
			c.Args = cobra.NoArgs
		}
		if !c.Runnable() {
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
		c.Args = asUsage(c.Args)
		c.DisableAutoGenTag = true
	}
	return root, nil
}

// whereSettingsAre is the rule by which a setting is named.
func (a *App) whereSettingsAre() string {
	return "A setting is a flag, a variable of the environment or a line of a file: --log.level, " + a.Settings.Variable("log.level") + ", level in the\n" +
		"section log. All of them: " + a.Program.Name + " config print.\n\n"
}

// commands are all below root, and it.
func commands(root *cobra.Command) func(func(*cobra.Command) bool) {
	return func(yield func(*cobra.Command) bool) {
		all := []*cobra.Command{root}
		for len(all) > 0 {
			if !yield(all[0]) {
				return
			}
			all = append(all[1:], all[0].Commands()...)
		}
	}
}

// asUsage has wrong arguments be wrong usage.
func asUsage(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := args(c, given); err != nil {
			return usage(fmt.Errorf("%w\nSee %s --help", err, c.CommandPath()))
		}
		return nil
	}
}

// WithSettings has a command take the settings as flags, and load them before it runs.
func (a *App) WithSettings(c *cobra.Command) *cobra.Command {
	a.Settings.AddFlags(c.Flags())
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.Load(); err != nil {
			return err
		}
		return run(c, args)
	}
	return c
}

// Load loads the settings and makes the log.
func (a *App) Load() error {
	if err := a.Settings.Load(a.settingsFile()); err != nil {
		return &Error{Status: Settings, Err: err}
	}
	a.SetLevel(a.Program.Log.Level)
	a.Log = a.Program.Log.logger(a.Err, &a.level)
	return nil
}

func (a *App) settingsFile() (path string, must bool) {
	if a.file != "" {
		return a.file, true
	}
	return configFile(a.Program.Name), false
}

// Reload loads the settings once more, into a struct like Program.Settings with the defaults, and lists those that have
// changed. Those in use stay as they are.
func (a *App) Reload(settings any) (changed []string, err error) {
	again, err := a.Settings.Again(settings)
	if err != nil {
		return nil, err
	}
	if err := again.Load(a.settingsFile()); err != nil {
		return nil, &Error{Status: Settings, Err: err}
	}
	return again.Changed(a.Settings), nil
}

// SetLevel changes what the log tells, while it is in use.
func (a *App) SetLevel(l slog.Level) { a.level.Set(l) }

// configCommand is what one can do with settings.
func (a *App) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Check and print the settings",
		Long: "The settings come from the program's defaults, the file (see --config), the environment and flags; each stands above\n" +
			"those before it. What is limits.rate in the file is the variable " + a.Settings.Variable("limits.rate") + " and the flag --limits.rate.",
	}
	show := &cobra.Command{
		Use: "print", Short: "Print all settings as a file, with what they mean and where each comes from",
		Long: "Print all settings as a file, with what they mean and where each comes from. What config check would object to is told\n" +
			"as well, and is no failure: what is printed is a file to begin with.",
		Example: "  " + a.Program.Name + " config print > " + a.Program.Name + ".yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.Settings.Read(a.settingsFile()); err != nil {
				return &Error{Status: Settings, Err: err}
			}
			if err := a.Settings.Print(c.OutOrStdout()); err != nil {
				return err
			}
			if err := errors.Join(a.Settings.Validate(), a.Settings.Check()); err != nil {
				fmt.Fprintf(c.ErrOrStderr(), "%s: before these settings can be used:\n  %s\n", a.Program.Name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
			}
			return nil
		},
	}
	a.Settings.AddFlags(show.Flags())
	c.AddCommand(a.WithSettings(&cobra.Command{
		Use: "check", Short: "Say what is wrong with the settings, and where",
		Long: "Say what is wrong with the settings, and where. The files that they name are read, too. Nothing is changed.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.Settings.Check(); err != nil {
				return &Error{Status: Settings, Err: err}
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "the settings are in order")
			return err
		},
	}), show)
	return c
}

// docsCommand is for who packages the program.
func (p *Program) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "docs DIR", Short: "Write a page of Markdown for each command", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.Docs(args[0]) },
	}
}

// Docs writes a page of Markdown for each command into dir.
func (p *Program) Docs(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := (&App{Program: p}).root()
	if err != nil {
		return err
	}
	root.InitDefaultCompletionCmd()
	return doc.GenMarkdownTree(root, dir)
}

// version is the module's, the commit and the compiler.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v += " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			v += " modified"
		}
	}
	return v + " " + info.GoVersion
}

// configFile is where the file of settings is unless it is told.
func configFile(name string) string { return filepath.Join(configHome(), name+".yaml") }

// Listening explains why a listener could not be had.
func Listening(what string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &Error{Status: Busy, Err: fmt.Errorf("%s: %w", what, err), Hint: "Another program listens there: see who with ss -ltnp, or choose another port."}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Status: Forbidden, Err: fmt.Errorf("%s: %w", what, err), Hint: "Ports below 1024 need root, or CAP_NET_BIND_SERVICE: choose a higher one."}
	case errors.Is(err, net.ErrClosed):
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}
