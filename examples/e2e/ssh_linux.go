package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// An sshd is a server at a peer's address, and what it takes to use it.
type sshd struct {
	from    *machine
	addr    string
	options []string
}

// startSSH has sshd serve at b, for a: with keys that nobody else has.
func startSSH(w *world) (*sshd, error) {
	dir := filepath.Join(w.t.dir, "ssh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, key := range []string{"host", "user"} {
		if _, err := output(command(w.t.ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path(key))); err != nil {
			return nil, err
		}
	}
	host, err := os.ReadFile(path("host.pub"))
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nPermitRootLogin prohibit-password\n"+
		"PasswordAuthentication no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n", w.b.v4, path("host"), path("user.pub"))
	err = errors.Join(
		os.WriteFile(path("known_hosts"), []byte(w.b.v4+" "+string(host)), 0o600),
		os.WriteFile(path("sshd_config"), []byte(config), 0o600))
	if err != nil {
		return nil, err
	}
	p, err := w.b.start("sshd", "sshd", "-D", "-e", "-f", path("sshd_config"))
	if err != nil {
		return nil, err
	}
	p.lax = true // SIGTERM is no success for it
	s := &sshd{from: w.a.machine, addr: w.b.v4, options: []string{
		"-F", "none", "-i", path("user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile=" + path("known_hosts"), "-o", "GlobalKnownHostsFile=none", "-o", "ConnectTimeout=20",
	}}
	return s, until(w.t.ctx, 10*time.Second, "sshd serves", func() error {
		c, err := w.b.Dial("tcp", net.JoinHostPort(w.b.v4, "22"))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, tail(p.log, 1000))
		}
		return c.Close()
	})
}

// run runs a command of the shell at the other end.
func (s *sshd) run(ctx context.Context, command string) (string, error) {
	return output(s.from.command(ctx, append(append([]string{"ssh"}, s.options...), "root@"+s.addr, command)...))
}

// A payload is a file that is to arrive.
type payload struct {
	path, arrives string
	size          int64
	sum           [32]byte
}

// newPayload makes a file of chance.
func newPayload(t *trial, size uint64) (*payload, error) {
	p := &payload{path: filepath.Join(t.large, "sent"), arrives: filepath.Join(t.large, "arrived"), size: int64(size)}
	f, err := os.Create(p.path)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{byte(size)}), p.size)
	p.sum = [32]byte(h.Sum(nil))
	return p, errors.Join(err, f.Close())
}

// came is how much of it has arrived.
func (p *payload) came() int64 {
	i, err := os.Stat(p.arrives)
	if err != nil {
		return 0
	}
	return i.Size()
}

// intact reports whether what arrived is what was sent.
func (p *payload) intact() (bool, error) {
	f, err := os.Open(p.arrives)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)) == p.sum, err
}

// copy has scp carry it, and returns how fast, in MB/s. It takes no less than that long.
func (s *sshd) copy(ctx context.Context, p *payload, least time.Duration) (rate float64, err error) {
	args := append([]string{"scp", "-q"}, s.options...)
	if least > 0 {
		args = append(args, "-l", fmt.Sprintf("%.0f", float64(p.size)*8/1000/least.Seconds())) // Kbit/s
	}
	began := time.Now()
	_, err = output(s.from.command(ctx, append(args, p.path, "root@"+s.addr+":"+p.arrives)...))
	return float64(p.size) / 1e6 / time.Since(began).Seconds(), err
}

// greets runs a command by ssh, and looks whether it came over the overlay.
func (s *sshd) greets(w *world) (bool, error) {
	out, err := s.run(w.t.ctx, "echo $SSH_CONNECTION")
	f := strings.Fields(out)
	return len(f) == 4 && f[0] == w.a.v4 && f[2] == w.b.v4, err
}
