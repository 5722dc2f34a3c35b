package program

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/splitmesh/splitmesh/examples/internal/config"
)

// Log are the settings of the log.
type Log struct {
	Level  slog.Level `name:"level" help:"what is told: debug, info, warn or error"`
	Format string     `name:"format" help:"text or json"`
}

// Validate implements config.Validator.
func (l *Log) Validate() (out []config.Problem) {
	if l.Format != "text" && l.Format != "json" {
		out = append(out, config.Problem{Path: "format", Text: fmt.Sprintf("%.40q is none of: text, json", l.Format)})
	}
	return out
}

// DefaultLog is text, from info on.
func DefaultLog() Log { return Log{Level: slog.LevelInfo, Format: "text"} }

func (l *Log) logger(w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
