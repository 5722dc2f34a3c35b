package store

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
)

var kills = flag.Int("kills", 10, "how often TestKill kills a process that writes")

const pathVariable = "SPLITMESH_MESHCHAT_TEST_STORE"

// talkForEver puts messages into a history and a queue at once, and says each number that is on the disk.
func talkForEver(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, seed, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for {
		var n int
		err := s.Update(ctx, func(tx *Tx) (err error) {
			if n, err = tx.Logged(ann); err != nil {
				return err
			}
			m := &Message{ID: uint64(n + 1), Text: fmt.Sprint(n)}
			if err := tx.Log(ann, m); err != nil {
				return err
			}
			if n >= MaxQueue/2 {
				if err := tx.Dequeue(ann.Peer, m.Number-MaxQueue/2); err != nil {
					return err
				}
			}
			return tx.Enqueue(ann.Peer, &Item{Log: m.Number, Message: protocol.Message{ID: m.ID}})
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill: whenever the process is killed, all that it said is stored is there, in history and queue alike.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for range *kills {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), pathVariable+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for left := 1 + rand.IntN(60); lines.Scan(); left-- {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatal(err)
			}
			if left == 0 {
				cmd.Process.Kill() // kill -9; what is in the pipe still counts
			}
		}
		_ = cmd.Wait() // it was killed
		s := reopen(t, path)
		said := history(t, s, ann)
		if len(said) != last+1 && len(said) != last+2 {
			t.Fatalf("%d messages, and %d was said to be stored", len(said), last)
		}
		for i, text := range said {
			if text != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, text)
			}
		}
		update(t, s, func(tx *Tx) error {
			n, err := tx.Queued(ann.Peer)
			if n != min(len(said), MaxQueue/2) {
				t.Errorf("%d wait, of %d", n, len(said))
			}
			return err
		})
		if s.Damaged() != 0 {
			t.Error(s.Damaged(), "rows are damaged")
		}
		s.Close()
	}
	t.Logf("%d kills, %d messages", *kills, last+1)
}
