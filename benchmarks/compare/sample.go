package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// An order asks a process of our own for one sample.
type order struct {
	Case, System string
	Quick        bool
	Profile      string `json:",omitempty"`
}

// A sample is what came of an order.
type sample struct {
	Case    string  `json:"case"`
	System  string  `json:"system"`
	Round   int     `json:"round"`
	Figures figures `json:"figures,omitempty"`
	// Others is which part of the machine other processes used meanwhile, Noisy
	// whether that is too much.
	Others float64 `json:"others"`
	Noisy  bool    `json:"noisy,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// sampleFlag is the hidden flag that makes this program a sample's process.
const sampleFlag = "-sample"

const (
	// tooMuch of the machine used by others spoils a sample.
	tooMuch = 0.10
	// longest is when a sample is given up.
	longest = time.Minute
)

// serveSample carries out an order, given as JSON, and prints the figures.
func serveSample(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	s, err := systemNamed(o.System)
	if err != nil {
		return err
	}
	k, err := caseNamed(o.Case)
	if err != nil {
		return err
	}
	p := planOf(o.Quick)
	if p.profile = o.Profile; p.profile != "" {
		p.measure *= 8
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest-5*time.Second)
	defer cancel()
	var links closing
	defer links.close()
	w, err := s.start(ctx, k.link.gateway(&links))
	if err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	f, err := k.run(ctx, w, p)
	if err != nil {
		return err
	}
	// The world isn't closed: it ends with the process, and faster.
	return json.NewEncoder(os.Stdout).Encode(f)
}

// take has a process of its own take a sample. One that hangs is made to say
// where, in a file that the error names.
func take(ctx context.Context, o order, env []string) sample {
	s := sample{Case: o.Case, System: o.System}
	text, err := json.Marshal(o)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	self, err := os.Executable()
	if err != nil {
		s.Error = err.Error()
		return s
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, longest)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self, sampleFlag, string(text))
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error {
		if whole.Err() != nil {
			return cmd.Process.Kill()
		}
		return askWhere(cmd.Process)
	}
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &s.Figures)
	}
	if whole.Err() != nil {
		s.Error = whole.Err().Error()
		return s
	}
	if err != nil {
		s.Error = strings.Join([]string{err.Error(), firstLines(stderr.String(), 5), keep(o, stderr.Bytes())}, ": ")
		return s
	}
	s.Others = s.Figures[other]
	delete(s.Figures, other)
	return s
}

// keep writes what a failed sample said to a file, and says to which.
func keep(o order, said []byte) string {
	f, err := os.CreateTemp("", "compare-"+o.Case+"-"+o.System+"-*.txt")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Write(said); err != nil {
		return err.Error()
	}
	return "all of it is in " + f.Name()
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(strings.TrimSpace(s), "\n", n+1)
	return strings.Join(lines[:min(len(lines), n)], "; ")
}
