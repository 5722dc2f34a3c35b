package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// pass runs a program that prints figures of its own, in the tree, and judges these.
func (t *trial) pass(args ...string) error {
	c := command(t.ctx, args...)
	c.Dir = t.root
	c.Env = append(c.Env, "TMPDIR="+t.large)
	figures := 0
	err := follow(c, func(line string) {
		if t.take(line) {
			figures++
		} else {
			t.say("%s", strings.TrimPrefix(line, "# "))
		}
	})
	if figures > 0 { // that one misses its bar is known
		return nil
	}
	return errors.Join(err, errors.New("it has printed no figure"))
}

// playLoad is relayload's.
func playLoad(t *trial) error {
	load := filepath.Join(t.large, "relayload")
	if err := build(t.ctx, t.root, "./examples/e2e/relayload", load); err != nil {
		return err
	}
	return t.pass(load, "-relay", t.meshrelay, "-circuits", fmt.Sprint(t.circuits), "-for", t.load.String(), "-prometheus")
}

// playRatios are those of the benchmarks.
func playRatios(t *trial) error {
	vpn, socks := filepath.Join(t.large, "vpn"), filepath.Join(t.large, "socks")
	if err := errors.Join(build(t.ctx, t.root, "./benchmarks/vpn", vpn), build(t.ctx, t.root, "./benchmarks/socks", socks)); err != nil {
		return err
	}
	rounds := fmt.Sprint(t.rounds)
	return errors.Join(t.pass(vpn, "-rounds", rounds, "-meshvpn", t.meshvpn), t.pass(socks, "-rounds", rounds, "-meshvpn", t.meshvpn))
}

var passed = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+)`)

// tests runs tests of a package, and returns which of them, and of their parts, passed and which did not.
func (t *trial) tests(dir, run string, more ...string) (ok, not []string, err error) {
	c := command(t.ctx, append([]string{"go", "test", "-count=1", "-v", "-run", "^(" + run + ")$", "./" + filepath.ToSlash(dir)}, more...)...)
	c.Dir = t.root
	c.Env = append(c.Env, "TMPDIR="+t.large)
	var last []string
	err = follow(c, func(line string) {
		last = append(last[max(0, len(last)-60):], line)
		switch m := passed.FindStringSubmatch(line); {
		case m == nil:
		case m[1] == "PASS":
			ok = append(ok, m[2])
		default:
			not = append(not, m[2])
		}
	})
	if err != nil || len(not) > 0 {
		t.say("%s", strings.Join(last, "\n"))
	}
	return ok, not, err
}

// chatFile is in bytes.
const chatFile = 100 << 20

// playChat is a test of meshchat's, with a larger file.
func playChat(t *trial) error {
	ok, _, err := t.tests("examples/meshchat", "TestScreen", "-file", fmt.Sprint(chatFile))
	if err == nil {
		t.atLeast("CHAT_SCENARIO", float64(len(ok)), 1) // which one that is skipped is not
	}
	return err
}

// leastNamed are the causes that doctor is to name.
const leastNamed = 12

// playDoctor are tests of doctor's: a part of one for each failure that is planted.
func playDoctor(t *trial) error {
	ok, not, err := t.tests("examples/internal/doctor", "TestSeeds|TestProxyThatWantsAPassword")
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	named, missed := 0, 0
	count := func(names []string, n *int) {
		for _, name := range names {
			if name != "TestSeeds" && name != "TestSeeds/nothing" { // that all is well is no failure
				*n++
			}
		}
	}
	count(ok, &named)
	count(not, &missed)
	t.atLeast("DOCTOR_NAMED", float64(named), leastNamed)
	t.atMost("DOCTOR_MISSED", float64(missed), 0)
	if named == 0 {
		return err
	}
	return nil
}
