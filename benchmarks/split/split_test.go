package main

import (
	"bytes"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == sideCommand {
		serveSide()
		return
	}
	goleak.VerifyTestMain(m)
}

// A lines takes what several processes write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// The whole, in a small form: how long it takes is not judged.
func TestSplit(t *testing.T) {
	if err := missing(); err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	var log lines
	err := split(t.Context(), options{splits: 1, nodes: 2, cut: 2 * time.Second}, &out, &log)
	t.Logf("%s%s", &log.buf, &out)
	if !regexp.MustCompile(`^SPLIT_HEALED = [0-9.]+ s \(bar ≤ 10\) (ok|FAILED): .*; 2 found`).Match(out.Bytes()) {
		t.Errorf("%q, %v", &out, err)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-nodes", "3"}, {"-nodes", "0"}, {"-nodes", "502"}, {"-splits", "0"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	if o, err := parse(nil); err != nil || o.splits != 20 || o.nodes != 50 || o.cut != time.Minute {
		t.Errorf("%+v, %v", o, err)
	}
}
