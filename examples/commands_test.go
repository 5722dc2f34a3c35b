package examples_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCommandPages: docs/commands is what the programs say of themselves; make commands
// writes it anew.
func TestCommandPages(t *testing.T) {
	kept, dir := filepath.Join("..", "docs", "commands"), t.TempDir()
	for _, p := range []string{"meshrelay", "meshvpn", "meshchat", "meshlocal"} {
		if out, err := exec.CommandContext(t.Context(), "go", "run", "./"+p, "docs", dir).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", p, err, out)
		}
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made {
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(kept, f.Name())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the program says: run make commands", f.Name())
		}
	}
	if old, err := os.ReadDir(kept); err != nil || len(old) != len(made)+1 { // and README.md
		t.Errorf("%d pages, and %d are made: %v", len(old)-1, len(made), err)
	}
}

// TestPrintedSettings: what config print writes is a file that config check takes, and of which config print says the same:
// with the defaults, and with each setting set by one of the lines below.
func TestPrintedSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const id = "eyxhc7xzvcklmsfgd2sl2hovqweew5xk74xus2eppqwk2jz2ltoybzyb"
	cert, key := certificate(t)
	secret, empty := file("secret", strings.Repeat("0f", 32)), file("empty.yaml", "")
	node := []string{
		"--node.listen=/ip4/0.0.0.0/tcp/4001/ws,/ip6/::/tcp/4002/wss", "--node.bootstrap=https://relay.example.org,/dnsaddr/example.org",
		"--node.name=ann", "--node.operator=Ann's # one", "--node.network=true", "--node.network-key-file=" + secret,
		"--node.passphrase-file=" + secret, "--node.reservations=-1", "--node.dht=false", "--node.lan", "--node.registries=https://r.example.org",
		"--node.registry-token-file=" + secret, "--node.hosts=no: such\nfile", "--log.level=warn+1", "--log.format=json",
	}
	relay := append([]string{
		"--relay.max-reservations=1", "--relay.max-circuits=2", "--relay.max-circuits-per-peer=3", "--relay.max-circuits-per-network=4",
		"--relay.max-circuit-bytes=1.5GB", "--relay.bytes-per-second=64KiB", "--relay.buffer=1", "--relay.allow=" + id, "--relay.deny=" + id,
		"--relay.allow-file=" + file("allow", id+"\n"), "--relay.deny-file=" + file("deny", ""), "--site.root=" + dir,
		"--site.announce=/dns/relay.example.org/tcp/443/wss", "--registry.serve=site", "--registry.keep=file", "--registry.max-records=5",
		"--registry.requests-per-second=6", "--registry.client-header=X-Real-IP", "--registry.read-token-file=" + secret,
		"--registry.write-token-file=" + secret, "--monitor.listen=[::1]:0", "--drain.timeout=90s", "--trace.otlp-endpoint=http://127.0.0.1:4318",
	}, node...)
	for program, lines := range map[string][][]string{
		"meshrelay": {
			{"--node.listen=/ip4/0.0.0.0/tcp/4001/ws"}, append([]string{"--tls.cert=" + file("cert", cert), "--tls.key=" + file("key", key)}, relay...),
			append([]string{"--tls.acme-domains=relay.example.org", "--tls.acme-email=a@example.org", "--tls.acme-ca=https://ca.example.org/dir", "--tls.acme-roots=" + file("cert", cert)}, relay...),
		},
		"meshvpn": {{}, append([]string{
			"--tun.name=mesh7", "--tun.mtu=1400", "--tun.ipv4=false", "--rules=allow ann tcp 22,deny bob", "--networks=192.0.2.0/24 via gate,198.51.100.0/24 to ann",
			"--dns=serve", "--relays.only", "--relays.paths=2",
		}, node...)},
		"meshchat": {
			{}, append([]string{"--nick=Ann: \"yes\" 'no' ü", "--files=~/files", "--accept-files=1MiB", "--paths=8"}, node...), {"--relayed-only"},
		},
		"meshlocal": {{}, {
			"--nodes=5", "--relays=1", "--hidden=0", "--delay=1ms", "--rate=1MiB", "--cuts=1s", "--every=1s", "--for=1m", "--plain", "--log.level=debug", "--log.format=json",
		}},
	} {
		path := filepath.Join(dir, program)
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./"+program).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		run := func(args ...string) string {
			t.Helper()
			var out, errs bytes.Buffer
			cmd := exec.CommandContext(t.Context(), path, args...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil {
				t.Errorf("%s %q: %v\n%s", program, args, err, errs.String())
			}
			return out.String()
		}
		run("config", "print", "--config="+empty) // also where something has to be set first
		set := make(map[string]bool)              // settings, by what they mean
		for _, line := range lines {
			printed := run(append([]string{"config", "print", "--config=" + empty}, line...)...)
			written := file("printed.yaml", printed)
			run("config", "check", "--config="+written)
			again := run("config", "print", "--config="+written)
			if values(again) != values(printed) {
				t.Errorf("%s: %s\nis read as\n%s", program, printed, again)
			}
			for l := range strings.Lines(printed) {
				if meaning, from, ok := strings.Cut(l, "; from "); ok {
					set[meaning] = set[meaning] || from != "default)\n"
				}
			}
		}
		for meaning, ok := range set {
			if !ok {
				t.Errorf("%s: no line above sets %s", program, meaning)
			}
		}
	}
}

// values are settings without comments.
func values(printed string) string {
	var out strings.Builder
	for l := range strings.Lines(printed) {
		if !strings.HasPrefix(strings.TrimSpace(l), "# ") {
			out.WriteString(l)
		}
	}
	return out.String()
}

// certificate is one with its key, in PEM.
func certificate(t *testing.T) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"relay.example.org"}}
	c, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
