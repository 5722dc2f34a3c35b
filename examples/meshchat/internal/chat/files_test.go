package chat

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/blob"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/mesh"
)

// TestFilePort: where a file is awaited only its sender may send, and no more than he said.
func TestFilePort(t *testing.T) {
	w := newWorld(t, 2)
	ann, m, eve := w.person("Ann"), w.mallory(), w.mallory()
	ann.start()
	conn := m.befriends(ann)
	m.sends(conn, 0, protocol.Message{ID: 1, File: &protocol.File{Name: "../../\x1b[2Jpasswd", Size: 100}})
	f := ann.file(store.Offered)
	if f.Name != "_.._·[2Jpasswd" {
		t.Errorf("%q", f.Name)
	}
	address := ann.ID.String() + ":" + fileService(m.ID(), ann.ID, 1)
	if _, err := m.Dial(t.Context(), address); err == nil {
		t.Error("it is sent before it is wanted")
	}
	ann.does("accepts", ann.AcceptFile(t.Context(), f.Number))
	eventually(t, "it is awaited", func() bool {
		ann.mu.Lock()
		defer ann.mu.Unlock()
		return len(ann.services) == 1
	})
	send := func(m *mallory, size int64) (err error) {
		eventually(t, "the port is open", func() bool {
			d := &mesh.Dialer{Node: m.Node}
			_, err = d.SendBlob(t.Context(), address, strings.NewReader(strings.Repeat("x", int(size))), size, blob.Options{})
			return !errors.Is(err, mesh.ErrNoService) && !errors.Is(err, mesh.ErrNoRoute) && !errors.Is(err, mesh.ErrNotReserved)
		})
		return err
	}
	if err := send(eve, 100); !errors.Is(err, mesh.ErrRefused) {
		t.Error("another sends:", err)
	}
	if _, ok := errors.AsType[*blob.SizeError](send(m, 101)); !ok {
		t.Error("more than was said is taken")
	}
	if err := send(m, 100); err != nil {
		t.Error(err)
	}
	same(t, ann.file(store.Done).Path, []byte(strings.Repeat("x", 100)))
}

// TestTakenBack: a file that was taken back, or whose receiver is blocked, is not sent.
func TestTakenBack(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	path, _ := noise(t, 10)
	for name, end := range map[string]func() error{
		"taken back": func() error { return ann.DropFile(t.Context(), ann.file(store.Offered).Number) },
		"blocked": func() error {
			if err := ann.SetStanding(t.Context(), bob.ID, store.Blocked); err != nil {
				return err
			}
			return ann.SetStanding(t.Context(), bob.ID, store.Friend)
		},
	} {
		ann.does("offers", ann.SendFile(t.Context(), with(bob), path))
		offer := ann.file(store.Offered)
		ann.does(name, end())
		ann.file(store.Withdrawn)
		if s := ann.takes(bob, protocol.Message{ID: offer.ID, Reply: &protocol.Reply{ID: offer.ID, Accepted: true}}); s[0] != protocol.Refused {
			t.Errorf("%s: %v", name, s)
		}
		ann.file(store.Withdrawn)
	}
}

// TestOfferFlood: who offers files without end is refused, and what others have begun goes on.
func TestOfferFlood(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob, eve := w.person("Ann"), w.person("Bob"), w.person("Eve")
	ann.knows(bob, eve)
	ann.takes(bob, protocol.Message{ID: 1, File: &protocol.File{Name: "wanted", Size: 9}})
	ann.does("accepts", ann.AcceptFile(t.Context(), ann.file(store.Offered).Number))
	refused := 0
	for i := range uint64(300) {
		if s := ann.takes(eve, protocol.Message{ID: 1 + i, File: &protocol.File{Name: "x"}}); s[0] == protocol.Refused {
			refused++
		}
	}
	all, err := ann.Files(t.Context())
	if err != nil || refused != 300-store.MaxOffered || len(all) != 1+store.MaxOffered || all[0].State != store.Running {
		t.Error(refused, len(all), err)
	}
	if lines := ann.texts(with(eve)); len(lines) != store.MaxOffered {
		t.Error(len(lines), "offers are told")
	}
}

// TestTooLargeForDisk: a file that has no room is not accepted, and one that would take most of it not without asking.
func TestTooLargeForDisk(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	ann.AutoAccept = protocol.MaxFileSize
	free, err := available(ann.dir)
	if err != nil || free/2 > protocol.MaxFileSize {
		t.Skip("the disk is too large:", free, err)
	}
	for i, size := range []int64{int64(min(2*free, protocol.MaxFileSize)), int64(free / 2)} {
		ann.takes(bob, protocol.Message{ID: uint64(1 + i), File: &protocol.File{Name: "x", Size: size}})
		f := ann.file(store.Offered)
		if err := ann.AcceptFile(t.Context(), f.Number); (err != nil) != (i == 0) {
			t.Error(size, "of", free, err)
		}
	}
	ann.takes(bob, protocol.Message{ID: 9, File: &protocol.File{Name: "x", Size: 9}})
	ann.file(store.Running)
}

// TestSweep: what is left of files that nobody waits for goes; what is awaited and what is others' stays.
func TestSweep(t *testing.T) {
	w := newWorld(t, 0)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.knows(bob)
	ann.takes(bob, protocol.Message{ID: 1, File: &protocol.File{Name: "x", Size: 9}})
	ann.does("accepts", ann.AcceptFile(t.Context(), ann.file(store.Offered).Number))
	if err := os.MkdirAll(ann.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stay := []string{ann.coming(fileService(bob.ID, ann.ID, 1)) + ".part", bob.coming(fileService(ann.ID, bob.ID, 1)), filepath.Join(ann.Dir, "a file")}
	stay[1] = filepath.Join(ann.Dir, filepath.Base(stay[1]))
	for _, path := range append(stay, ann.coming(fileService(bob.ID, ann.ID, 2))+".part") {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(want int) {
		t.Helper()
		ann.does("sweeps", ann.sweep(t.Context()))
		if left, err := os.ReadDir(ann.Dir); err != nil || len(left) != want {
			t.Error(left, err)
		}
	}
	sees(3)
	ann.does("drops", ann.DropFile(t.Context(), ann.file(store.Running).Number))
	sees(2)
}

// TestSourceGone: when what was offered is gone, or another, both know.
func TestSourceGone(t *testing.T) {
	w := newWorld(t, 2)
	ann, bob := w.person("Ann"), w.person("Bob")
	ann.start()
	bob.start()
	ann.meets(bob)
	path, _ := noise(t, 1000)
	for _, spoil := range []func() error{func() error { return os.Truncate(path, 500) }, func() error { return os.Remove(path) }} {
		ann.does("offers", ann.SendFile(t.Context(), with(bob), path))
		offered := bob.file(store.Offered)
		ann.does("spoils", spoil())
		bob.does("accepts", bob.AcceptFile(t.Context(), offered.Number))
		ann.file(store.Failed)
		bob.file(store.Withdrawn)
	}
	if left, err := os.ReadDir(bob.Dir); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}
