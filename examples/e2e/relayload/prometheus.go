package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A prometheus is a real one, that scrapes the relay as an operator's does.
type prometheus struct {
	cmd   *exec.Cmd
	at    string
	ended chan error
}

const scrapeConfig = "scrape_configs: [{job_name: meshrelay, scrape_interval: 2s, scrape_timeout: 2s, static_configs: [{targets: [%q]}]}]\n"

// startPrometheus has one scrape the relay, and keep what it sees in the relay's directory.
func startPrometheus(ctx context.Context, r *relay) (*prometheus, error) {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, fmt.Errorf("there is no Prometheus: apt-get install prometheus, or leave out -prometheus: %w", err)
	}
	target, err := url.Parse(r.metrics)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(r.dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, scrapeConfig, target.Host), 0o600); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &prometheus{at: l.Addr().String(), ended: make(chan error, 1)}
	l.Close() // for it
	p.cmd = exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(r.dir, "prometheus"), "--web.listen-address="+p.at)
	p.cmd.SysProcAttr = apart()
	var said strings.Builder
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		err := p.cmd.Wait()
		if err != nil {
			err = fmt.Errorf("prometheus: %w\n%s", err, said.String())
		}
		p.ended <- err
	}()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for late := time.After(30 * time.Second); ; {
		if n, err := p.query(ctx, "count_over_time(up[24h])"); err == nil && n > 0 {
			return p, nil
		}
		select {
		case <-again.C:
		case err := <-p.ended:
			return nil, err
		case <-late:
			return nil, errors.Join(errors.New("prometheus does not come up"), p.stop())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), p.stop())
		}
	}
}

// query asks for one number.
func (p *prometheus) query(ctx context.Context, q string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.at+"/api/v1/query?query="+url.QueryEscape(q), nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("%s: %w", q, err)
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s: prometheus has %d answers", q, len(answer.Data.Result))
	}
	return strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
}

// scraped is what came of it: how many scrapes there were, how many of these failed, and the most circuits that were seen.
type scraped struct{ scrapes, missed, circuits float64 }

func (p *prometheus) result(ctx context.Context) (s scraped, err error) {
	var took float64
	for q, v := range map[string]*float64{
		"count_over_time(up[24h])": &s.scrapes, "sum_over_time(up[24h])": &took, "max_over_time(splitmesh_relay_circuits[24h])": &s.circuits,
	} {
		n, queryErr := p.query(ctx, q)
		*v, err = n, errors.Join(err, queryErr)
	}
	s.missed = s.scrapes - took
	return s, err
}

func (p *prometheus) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	kill := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return <-p.ended
}
