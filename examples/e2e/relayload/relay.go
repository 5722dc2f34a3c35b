package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/splitmesh/splitmesh/transport"
)

// A relay is the process under load.
type relay struct {
	cmd     *exec.Cmd
	dir     string
	addr    multiaddr.Multiaddr
	metrics string // URL
	ended   chan error
}

const program = "github.com/splitmesh/splitmesh/examples/meshrelay"

func startRelay(ctx context.Context, o options) (_ *relay, err error) {
	r := &relay{ended: make(chan error, 1)}
	if r.dir, err = os.MkdirTemp("", "relayload"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stop())
		}
	}()
	if o.relay == "" {
		o.relay = filepath.Join(r.dir, "meshrelay")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.relay, program).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the relay: %w\n%s", err, out)
		}
	}
	settings := filepath.Join(r.dir, "meshrelay.yaml") // empty: those of this machine are not meant
	if err := os.WriteFile(settings, nil, 0o600); err != nil {
		return nil, err
	}
	many := fmt.Sprint(10 * o.circuits) // all peers are in one network
	r.cmd = exec.Command(o.relay, "run", "--config", settings, "--state", filepath.Join(r.dir, "s"), "--node.listen=/ip4/127.0.0.1/tcp/0/ws", "--node.dht=false",
		"--monitor.listen=127.0.0.1:0", "--log.format=json", "--drain.timeout=1s", "--relay.max-circuits="+many, "--relay.max-circuits-per-network="+many)
	r.cmd.SysProcAttr = apart()
	said, err := r.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		r.cmd = nil
		return nil, err
	}
	up := make(chan error, 1)
	go func() { // ends with the process
		err := r.read(bufio.NewScanner(said), up)
		r.ended <- errors.Join(err, r.cmd.Wait())
	}()
	select {
	case err = <-up:
	case <-time.After(30 * time.Second):
		err = errors.New("the relay does not come up")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return r, err
}

// read reads the relay's log, and tells up when it is ready.
func (r *relay) read(lines *bufio.Scanner, up chan<- error) error {
	for lines.Scan() {
		var l struct{ Level, Msg, What, Addr, Bootstrap string }
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Level == "WARN" || l.Level == "ERROR" {
			fmt.Fprintln(os.Stderr, lines.Text())
			continue
		}
		switch {
		case l.Msg == "listening" && l.What == "monitor":
			r.metrics = "http://" + l.Addr + "/metrics"
		case l.Msg == "others begin with":
			var err error
			if r.addr, err = transport.Parse(l.Bootstrap); err != nil {
				up <- err
				return err
			}
		case l.Msg == "the relay is ready":
			up <- nil
		}
	}
	select {
	case up <- errors.New("the relay ended at once"):
	default:
	}
	return lines.Err()
}

// A sample is what the relay is at one moment.
type sample struct {
	circuits int
	mib      float64 // of resident memory
}

func (r *relay) sample(ctx context.Context) (s sample, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.metrics, nil)
	if err != nil {
		return s, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(res.Body)
	if err != nil {
		return s, err
	}
	value := func(name string) float64 {
		m := all[name].GetMetric()
		if len(m) != 1 {
			err = errors.Join(err, fmt.Errorf("the relay tells no %s", name))
			return 0
		}
		return m[0].GetGauge().GetValue()
	}
	s.circuits, s.mib = int(value("splitmesh_relay_circuits")), value("process_resident_memory_bytes")/(1<<20)
	return s, err
}

// stop ends the relay and removes what it kept. A relay that was not well is an error.
func (r *relay) stop() (err error) {
	http.DefaultClient.CloseIdleConnections()
	if r.cmd != nil {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(30*time.Second, func() { _ = r.cmd.Process.Kill() })
		defer kill.Stop()
		if err = <-r.ended; err != nil {
			err = fmt.Errorf("the relay: %w", err)
		}
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}
