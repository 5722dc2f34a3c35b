package etcd_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// patience is how long a test waits for what must happen, on a machine that is busy with something else.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A member is an etcd-server process of a test's own, which can be killed and started again.
type member struct {
	args     []string
	endpoint string
	log      string // its file
	data     string // its directory
	cmd      *exec.Cmd
}

// start starts a cluster of n members on free ports of 127.0.0.1, with those flags, and waits until it answers.
func start(t *testing.T, n int, flags ...string) []*member {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Fatal("etcd is not in PATH, and these tests start it: install it, as with apt-get install etcd-server")
	}
	clients, peers := freeURLs(t, n), freeURLs(t, n)
	var cluster []string
	for i, peer := range peers {
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peer))
	}
	members := make([]*member, n)
	for i := range members {
		dir := t.TempDir()
		members[i] = &member{
			endpoint: clients[i],
			log:      filepath.Join(dir, "log"),
			data:     filepath.Join(dir, "data"),
			args: append([]string{
				"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, "data"),
				"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
				"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
				"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-token", t.Name(),
				"--heartbeat-interval", "50", "--election-timeout", "500",
				"--logger", "zap", "--log-level", "warn",
			}, flags...),
		}
		members[i].start(t)
	}
	for _, m := range members {
		m.await(t)
	}
	return members
}

// freeURLs returns n URLs with ports that the kernel has just found to be free.
func freeURLs(t *testing.T, n int) []string {
	t.Helper()
	var urls []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // when all are known, so that they differ
		urls = append(urls, "http://"+l.Addr().String())
	}
	return urls
}

func (m *member) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if b, err := os.ReadFile(m.log); t.Failed() && err == nil {
			t.Logf("the log of %s:\n%s", m.endpoint, b)
		}
	})
}

// kill is kill -9.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// await waits until the member answers, which it does when there is a leader.
func (m *member) await(t *testing.T) {
	t.Helper()
	client := connect(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := client.Get(ctx, "any")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not answer: %v", m.endpoint, err)
		}
	}
}

// connect returns a client of the members, which is closed before they are.
func connect(t *testing.T, members ...*member) *clientv3.Client {
	t.Helper()
	return connectAs(t, "", members...)
}

// connectAs is connect for a user, whose password is the same as its name.
func connectAs(t *testing.T, user string, members ...*member) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Username: user, Password: user, Logger: zap.NewNop()}
	for _, m := range members {
		config.Endpoints = append(config.Endpoints, m.endpoint)
	}
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
