package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// A world is relays on loopback; people know them all.
type world struct {
	t      *testing.T
	relays []*mesh.Node
}

// newWorld starts relays; with a rate they are so slow, in bytes a second.
func newWorld(t *testing.T, relays int, rate ...int) *world {
	w := &world{t: t}
	slow := &mesh.RelayConfig{}
	for _, r := range rate {
		slow.BytesPerSecond = r
	}
	for range relays {
		r := &mesh.Node{ListenAddrs: addrs(t, "/ip4/127.0.0.1/tcp/0/ws"), Relay: slow}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		w.relays = append(w.relays, r)
	}
	return w
}

func (w *world) addrs() (out []multiaddr.Multiaddr) {
	for _, r := range w.relays {
		out = append(out, r.Addrs()...)
	}
	return out
}

func addrs(t *testing.T, texts ...string) (out []multiaddr.Multiaddr) {
	t.Helper()
	for _, s := range texts {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// A person has a key and a directory, and an engine that may run.
type person struct {
	*Engine
	w    *world
	t    *testing.T
	key  *identity.Key
	name string
	dir  string
	// end ends the run: nil when there is none.
	end func()
	// knowing is whether his node knows the relays itself.
	knowing bool
}

func (w *world) person(name string) *person {
	w.t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &person{w: w, t: w.t, key: key, name: name, dir: w.t.TempDir(), knowing: true}
	p.open()
	w.t.Cleanup(func() {
		p.stop()
		p.Store.Close()
	})
	return p
}

// open makes the engine of what is in the directory.
func (p *person) open() {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", p.name)
	}
	s, err := store.Open(p.t.Context(), filepath.Join(p.dir, "chat.db"), p.key.Seed(), log)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Engine = New(Options{
		Store: s, ID: p.key.ID(), Nick: p.name, Dir: filepath.Join(p.dir, "files"), Log: log,
		Open: func(ctx context.Context, more []string, a Authorize) (Node, error) {
			n := &mesh.Node{Identity: p.key, Bootstrap: addrs(p.t, more...), Authorize: a}
			if p.knowing {
				n.Bootstrap = append(n.Bootstrap, p.w.addrs()...)
			}
			return Node{n, n.Close}, n.Start(ctx)
		},
	})
}

// start has the engine run, and waits until others find it.
func (p *person) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.end = func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Error(p.name, err)
		}
	}
}

func (p *person) stop() {
	if p.end != nil {
		p.end()
		p.end = nil
	}
}

// restart is another run of the program.
func (p *person) restart() {
	p.t.Helper()
	p.stop()
	if err := p.Store.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.open()
	p.start()
}

// meets makes two people contacts of each other, by invitation.
func (p *person) meets(others ...*person) {
	p.t.Helper()
	for _, o := range others {
		v, err := p.Invite(p.t.Context(), p.w.addrs())
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := o.Join(p.t.Context(), v.String(), ""); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, o := range others {
		eventually(p.t, p.name+" knows "+o.name, func() bool { return p.standing(o) == store.Friend })
	}
}

func (p *person) standing(o *person) store.Standing {
	people, err := p.Contacts(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range people {
		if c.ID == o.ID {
			return c.Standing
		}
	}
	return 0
}

// with is the chat with another.
func with(o *person) protocol.Chat { return protocol.Chat{Peer: o.ID} }

func (p *person) says(chat protocol.Chat, text string) {
	p.t.Helper()
	if err := p.Send(p.t.Context(), chat, text); err != nil {
		p.t.Fatal(err)
	}
}

// reads has all of a chat be seen.
func (p *person) reads(chat protocol.Chat) {
	p.t.Helper()
	lines, err := p.Unseen(p.t.Context(), chat)
	if err := errors.Join(err, p.MarkRead(p.t.Context(), chat, lines)); err != nil {
		p.t.Fatal(err)
	}
}

// texts are those of a chat, with their authors' names as p has them.
func (p *person) texts(chat protocol.Chat) (out []string) {
	p.t.Helper()
	lines, err := p.History(p.t.Context(), chat, 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, l := range lines {
		if l.File != nil {
			l.Text = "file " + l.File.Name
		}
		out = append(out, l.Author+": "+l.Text)
	}
	return out
}

// hears waits until a chat has just these texts.
func (p *person) hears(chat protocol.Chat, want ...string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s hears %q", p.name, want), func() bool { return slices.Equal(p.texts(chat), want) }, func() string {
		return fmt.Sprint(p.texts(chat))
	})
}

// marks waits until the last message of p's in a chat is that far.
func (p *person) marked(chat protocol.Chat, want string) {
	p.t.Helper()
	last := func() string {
		lines, err := p.History(p.t.Context(), chat, 1)
		if err != nil || len(lines) == 0 {
			return fmt.Sprint(err)
		}
		return lines[0].Mark()
	}
	eventually(p.t, p.name+"'s message is "+want, func() bool { return last() == want }, last)
}

// file waits until p's last transfer is in a state.
func (p *person) file(want store.TransferState) File {
	p.t.Helper()
	var last File
	eventually(p.t, fmt.Sprintf("%s's file is %v", p.name, want), func() bool {
		all, err := p.Files(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		return last.State == want
	}, func() string { return fmt.Sprintf("%+v", last) })
	return last
}

func eventually(t *testing.T, what string, ok func() bool, now ...func() string) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			for _, f := range now {
				what += "; now: " + f()
			}
			t.Fatal("not in time: " + what)
		}
	}
}

// noise makes a file of chance.
func noise(t *testing.T, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	fill(content)
	path = filepath.Join(t.TempDir(), "some thing.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err := errors.Join(err); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want other %d", path, len(got), err, len(want))
	}
}
