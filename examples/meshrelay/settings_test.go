package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// checked is what `config check` says of a file.
func checked(t *testing.T, yaml string) (status int, path, said string) {
	t.Helper()
	path = write(t, filepath.Join(t.TempDir(), "meshrelay.yaml"), yaml)
	var out bytes.Buffer
	status = newProgram().Run(within(t), []string{"config", "check", "--config", path}, os.Stdin, &out, &out)
	return status, path, out.String()
}

// TestSettings: what can't be is told by file, line and name.
func TestSettings(t *testing.T) {
	const ws = "node: {listen: [/ip4/0.0.0.0/tcp/4001/ws]}\n"
	const wss = "node: {listen: [/ip4/0.0.0.0/tcp/443/wss]}\n"
	for name, tt := range map[string]struct{ yaml, want string }{
		"no address":        {"", "default: node.listen: a relay has to be reached"},
		"wss without":       {wss, ":1:16: node.listen: wss needs a certificate"},
		"certificate in":    {ws + "tls: {cert: c, key: k}\n", ":2:13: tls: there is a certificate, and no address"},
		"half a pair":       {wss + "tls: {cert: c}\n", ":2:13: tls.cert: cert and key go together"},
		"two sources":       {wss + "tls: {cert: c, key: k, acme-domains: [a.example]}\n", "tls.acme-domains: there is a certificate file already"},
		"a wildcard":        {wss + "tls: {acme-domains: ['*.a.example']}\n", "is no name of a host"},
		"plain authority":   {wss + "tls: {acme-domains: [a.example], acme-ca: 'http://ca'}\n", "is no URL like https://"},
		"no site":           {"node: {listen: [/ip4/0.0.0.0/tcp/4001]}\nregistry: {serve: site}\n", "registry.serve: there is no site"},
		"no site for pages": {"node: {listen: [/ip4/0.0.0.0/tcp/4001]}\nsite: {root: x}\n", "site.root: there is no site"},
		"registry where":    {ws + "registry: {serve: everywhere}\n", "is not HOST:PORT, with a port from 0 to 65535, nor site"},
		"registry how":      {ws + "registry: {keep: stone}\n", "none of: memory, file"},
		"no requests":       {ws + "registry: {requests-per-second: 0}\n", "not between 1 and"},
		"records":           {ws + "registry: {max-records: -1}\n", "registry.max-records"},
		"a header":          {ws + "registry: {client-header: 'X: y'}\n", "no header's name"},
		"announced TCP":     {ws + "site: {announce: /dns/a.example/tcp/1}\n", "site.announce: it is for a WebSocket"},
		"negative circuits": {ws + "relay: {max-circuits: -1}\n", ":2:23: relay.max-circuits: -1 is not between 0 and 2147483647"},
		"a fast circuit":    {ws + "relay: {bytes-per-second: 3GB}\n", "3000000000 is not between 0 and 2147483647"},
		"a port":            {ws + "monitor: {listen: '127.0.0.1:99999'}\n", "with a port from 0 to 65535"},
		"UDP":               {"node: {listen: [/ip4/0.0.0.0/udp/4001]}\n", ":1:16: node.listen: \"/ip4/0.0.0.0/udp/4001\" can't be listened on"},
		"an ID":             {ws + "relay: {allow: [ann]}\n", ":2:17: relay.allow: "},
		"monitor":           {ws + "monitor: {listen: here}\n", "monitor.listen: \"here\" is not HOST:PORT"},
		"a long drain":      {ws + "drain: {timeout: 25h}\n", "drain.timeout"},
		"a collector":       {ws + "trace: {otlp-endpoint: 'localhost:4318'}\n", "trace.otlp-endpoint"},
		"unknown":           {ws + "relay: {max-circles: 1}\n", "unknown key \"max-circles\"; allowed here: max-reservations"},
	} {
		status, path, said := checked(t, tt.yaml)
		if status != program.Settings || !strings.Contains(strings.ReplaceAll(said, path, ""), tt.want) {
			t.Errorf("%s: status %d: %s", name, status, said)
		}
	}
	for _, yaml := range []string{
		"trace: {otlp-endpoint: 'https://me:hunter2@collector.example'}\n", "node: {listen: [/ip4/0.0.0.0/tcp/4001/ws], registries: ['https://hunter2@r.example/x']}\n",
		"node: {listen: [/ip4/0.0.0.0/tcp/4001/ws], bootstrap: ['https://me:hunter2@r.example']}\n",
	} {
		if !strings.HasPrefix(yaml, "node") {
			yaml = ws + yaml
		}
		if status, _, said := checked(t, yaml); status != program.Settings || strings.Contains(said, "hunter2") {
			t.Errorf("a secret in a setting: status %d: %s", status, said)
		}
	}
	if status, _, said := checked(t, wss+"tls: {acme-domains: [a.example], acme-email: a@a.example}\nregistry: {serve: site, client-header: CF-Connecting-IP}\nrelay: {max-circuit-bytes: 1GB}\n"); status != 0 {
		t.Error(said)
	}
}

// TestNamedFiles: config check reads the files that are named, and says which is wrong.
func TestNamedFiles(t *testing.T) {
	dir := t.TempDir()
	garbage, none := write(t, filepath.Join(dir, "garbage"), "-----BEGIN\n"), filepath.Join(dir, "none")
	cert := newPair(t, t.TempDir(), nil)
	const ws = "node: {listen: [/ip4/0.0.0.0/tcp/4001/ws]"
	const wss = "node: {listen: [/ip4/0.0.0.0/tcp/443/wss]}\n"
	for name, tt := range map[string]struct{ yaml, want string }{
		"allow":              {ws + "}\nrelay: {allow-file: " + none + "}\n", ":2:21: relay.allow-file: open " + none},
		"deny":               {ws + "}\nrelay: {deny-file: " + garbage + "}\n", ":2:20: relay.deny-file: " + garbage + ":1: "},
		"root":               {ws + "}\nsite: {root: " + none + "}\n", ":2:14: site.root: "},
		"root is a file":     {ws + "}\nsite: {root: " + garbage + "}\n", "site.root: "},
		"network key":        {ws + ", network-key-file: " + garbage + "}\n", "node.network-key-file: network key: " + garbage + " must hold 64 hexadecimal digits"},
		"passphrase":         {ws + ", passphrase-file: " + none + "}\n", "node.passphrase-file: "},
		"token":              {ws + ", registries: ['https://r.example'], registry-token-file: " + none + "}\n", "node.registry-token-file: "},
		"readers' token":     {ws + "}\nregistry: {read-token-file: " + none + "}\n", ":2:29: registry.read-token-file: "},
		"publishers' token":  {ws + "}\nregistry: {serve: site, write-token-file: " + none + "}\n", "registry.write-token-file: "},
		"certificate":        {wss + "tls: {cert: " + garbage + ", key: " + cert.key + "}\n", ":2:13: tls.cert: " + garbage + " holds no certificate"},
		"no certificate":     {wss + "tls: {cert: " + none + ", key: " + cert.key + "}\n", ":2:13: tls.cert: "},
		"its key":            {wss + "tls: {cert: " + cert.cert + ", key: " + garbage + "}\n", "tls.key: " + garbage + " for the certificate in " + cert.cert},
		"no key":             {wss + "tls: {cert: " + cert.cert + ", key: " + none + "}\n", "tls.key: "},
		"another's key":      {wss + "tls: {cert: " + cert.cert + ", key: " + newPair(t, t.TempDir(), nil).key + "}\n", "tls.key: "},
		"authority's roots":  {wss + "tls: {acme-domains: [a.example], acme-roots: " + garbage + "}\n", "tls.acme-roots: " + garbage + " holds no certificate"},
		"two at once, first": {ws + "}\nrelay: {allow-file: " + none + ", deny-file: " + none + "}\n", "relay.allow-file: "},
		"two at once, other": {ws + "}\nrelay: {allow-file: " + none + ", deny-file: " + none + "}\n", "relay.deny-file: "},
	} {
		if status, _, said := checked(t, tt.yaml); status != program.Settings || !strings.Contains(said, tt.want) {
			t.Errorf("%s: status %d: %s", name, status, said)
		}
	}
	if status, _, said := checked(t, wss+"tls: {cert: "+cert.cert+", key: "+cert.key+"}\nsite: {root: "+dir+"}\n"); status != program.OK {
		t.Error(said)
	}
}

// TestNeedsRestart: what SIGHUP changes, and what not.
func TestNeedsRestart(t *testing.T) {
	for path, want := range map[string]bool{
		"relay.max-circuits": false, "relay.allow": false, "relay.buffer": true, "log.level": false, "log.format": true, "tls.cert": false,
		"tls.acme-domains": true, "registry.serve": true, "registry.read-token-file": false, "node.listen": true, "drain.timeout": false,
	} {
		if got := needsRestart(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestSettingOf: what the library says of a limit is the setting's name.
func TestSettingOf(t *testing.T) {
	for f := range reflect.TypeFor[relaySettings]().Fields() {
		if strings.HasPrefix(f.Name, "Max") && settingOf(f.Name) != f.Tag.Get("name") {
			t.Errorf("%s is called %s", f.Name, settingOf(f.Name))
		}
	}
	if settingOf("Allow") != "allow or deny" {
		t.Error(settingOf("Allow"))
	}
}

// TestClientAddr: of what a header says, the proxy's own word counts.
func TestClientAddr(t *testing.T) {
	for header, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "198.51.100.9, 192.0.2.1": "192.0.2.1", "192.0.2.1, nonsense": "invalid IP", "": "invalid IP", "2001:db8::1": "2001:db8::1",
	} {
		r := &http.Request{Header: http.Header{"X-Forwarded-For": {"10.0.0.1", header}}}
		if got := clientAddr("X-Forwarded-For")(r); got.String() != want {
			t.Errorf("%q: %v", header, got)
		}
	}
	if clientAddr("X-Forwarded-For")(new(http.Request)).IsValid() {
		t.Error("an address of nothing")
	}
}
