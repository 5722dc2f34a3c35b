package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// startMeshVPN runs a meshvpn that publishes a sink, and one that is the proxy to it.
func startMeshVPN(exe string) (_ *tunnel, err error) {
	dir, err := os.MkdirTemp("", "vpn")
	if err != nil {
		return nil, err
	}
	t := &tunnel{name: "meshvpn SOCKS5"}
	var ends []func()
	t.close = func() {
		for _, end := range ends {
			end()
		}
		os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.sink, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	ends = append(ends, func() { t.sink.Close() })
	at, err := freePort()
	if err != nil {
		return nil, err
	}
	line, end, err := run(exe, "serve", t.sink.Addr().String(), "--as", "80", "--allow-all", "--state", filepath.Join(dir, "peer"),
		"--node.dht=false", "--log.level", "warn", "--node.listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/ws", at))
	if err != nil {
		return nil, err
	}
	ends = append(ends, end)
	id, err := identity.ParseID(word(line))
	if err != nil {
		return nil, err
	}
	line, end, err = run(exe, "proxy", "--socks", "127.0.0.1:0", "--http", "", "--state", filepath.Join(dir, "proxy"),
		"--node.dht=false", "--log.level", "warn", "--node.bootstrap", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/ws/p2p/%s", at, id.PeerID()))
	if err != nil {
		return nil, err
	}
	ends = append(ends, end)
	at5 := word(line)
	t.dial = func(ctx context.Context) (net.Conn, error) { return socks(ctx, at5, id.String()+".mesh") }
	return t, nil
}

// socks connects to port 80 of a host by a SOCKS5 proxy (RFC 1928).
func socks(ctx context.Context, at, host string) (_ net.Conn, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if _, err := fmt.Fprintf(c, "\x05\x01\x00\x05\x01\x00\x03%c%s\x00\x50", rune(len(host)), host); err != nil {
		return nil, err
	}
	var answer [12]byte // to the greeting, and to the request
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return nil, err
	}
	if answer[3] != 0 {
		return nil, fmt.Errorf("socks: reply %d", answer[3])
	}
	return c, nil
}

// freePort is one that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// run starts a process and returns its first line.
func run(exe string, args ...string) (line string, end func(), err error) {
	cmd := exec.Command(exe, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = cmd.Process.Signal(os.Interrupt) // who has ended needs none
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
	late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		end()
		return "", nil, errors.Join(fmt.Errorf("meshvpn %s has not begun", args[0]), err)
	}
	return strings.TrimSpace(line), end, nil
}
