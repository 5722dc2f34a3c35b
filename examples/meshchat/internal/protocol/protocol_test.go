package protocol

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// id is the nth of some IDs that are the same everywhere.
func id(n int) identity.ID {
	seed := sha256.Sum256([]byte{byte(n)})
	k, err := identity.NewKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k.ID()
}

func members(n int) (out []identity.ID) {
	for i := range n {
		out = append(out, id(i+1))
	}
	slices.SortFunc(out, identity.ID.Compare)
	return out
}

var room = &Chat{Peer: id(100), Room: 7}

// TestFrames that are sound come back as they were.
func TestFrames(t *testing.T) {
	for _, f := range []frame{
		&Hello{Version: 1}, &Hello{Version: 1, Secret: make([]byte, SecretSize), Nick: "Ann"},
		&Welcome{Version: 1, Known: true}, &Answer{Status: []Status{Taken, Later, Refused}}, &Batch{Read: 5},
		&Batch{Messages: []Message{
			{ID: 1, Text: "hello"}, {ID: 2, Room: room, Text: strings.Repeat("ü", MaxText/2)}, {ID: 3, File: &File{Name: "a", Size: 1}},
			{ID: 4, Reply: &Reply{ID: 9, Accepted: true}}, {ID: 5, Room: room, Members: &Members{Name: "r", IDs: members(MaxMembers)}},
			{ID: 6, Room: room, Leave: true},
		}},
	} {
		var b bytes.Buffer
		if err := Write(&b, f); err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(f).Elem()).Interface().(frame)
		if err := Read(&b, MaxFrame, got); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%+v: %+v, %v", f, got, err)
		}
	}
}

// TestRefused: what must not be is neither written nor read.
func TestRefused(t *testing.T) {
	one := func(m Message) frame { return &Batch{Messages: []Message{m}} }
	turned := members(2)
	slices.Reverse(turned)
	for name, f := range map[string]frame{
		"long secret": &Hello{Secret: make([]byte, 17)}, "long nick": &Hello{Nick: strings.Repeat("x", MaxName+1)},
		"no ID": one(Message{Text: "x"}), "endless ID": one(Message{ID: MaxID + 1, Text: "x"}), "nothing": one(Message{ID: 1}),
		"two kinds": one(Message{ID: 1, Text: "x", File: &File{Name: "x"}}), "long text": one(Message{ID: 1, Text: strings.Repeat("x", MaxText+1)}),
		"no text": one(Message{ID: 1, Text: "\xff"}), "zero byte": one(Message{ID: 1, Text: "a\x00"}),
		"negative file": one(Message{ID: 1, File: &File{Name: "x", Size: -1}}), "nameless file": one(Message{ID: 1, File: &File{}}),
		"reply in a room": one(Message{ID: 1, Room: room, Reply: &Reply{ID: 1}}), "no room": one(Message{ID: 1, Members: &Members{Name: "r"}}), "leaves no room": one(Message{ID: 1, Leave: true}),
		"leaves with a word": one(Message{ID: 1, Room: room, Leave: true, Text: "bye"}),
		"room 0":             one(Message{ID: 1, Room: &Chat{Peer: id(1)}, Text: "x"}),
		"no creator":         one(Message{ID: 1, Room: &Chat{Room: 1}, Text: "x"}),
		"many members":       one(Message{ID: 1, Room: room, Members: &Members{Name: "r", IDs: members(MaxMembers + 1)}}),
		"members unsorted":   one(Message{ID: 1, Room: room, Members: &Members{Name: "r", IDs: turned}}),
		"creator as member":  one(Message{ID: 1, Room: room, Members: &Members{Name: "r", IDs: []identity.ID{room.Peer}}}),
		"no member":          one(Message{ID: 1, Room: room, Members: &Members{Name: "r", IDs: make([]identity.ID, 1)}}),
		"many messages":      &Batch{Messages: make([]Message, MaxBatch+1)}, "impossible status": &Answer{Status: []Status{9}},
	} {
		if err := Write(io.Discard, f); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is written: %v", name, err)
		}
		b, err := encMode.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(b, reflect.New(reflect.TypeOf(f).Elem()).Interface().(frame)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
	for name, b := range map[string]string{
		"too long": "\x00\x10\x00\x00", "endless": "\xff\xff\xff\xff", "cut": "\x00\x00\x00\x05\xa1",
		"unknown field": "\x00\x00\x00\x03\xa1\x09\x01", "doubled field": "\x00\x00\x00\x05\xa2\x02\x01\x02\x01",
		"longer number": "\x00\x00\x00\x04\xa1\x02\x18\x05", "endless map": "\x00\x00\x00\x04\xbf\x02\x05\xff", "more behind": "\x00\x00\x00\x04\xa1\x02\x05\x00",
	} {
		if err := Read(strings.NewReader(b), MaxFrame, new(Batch)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	if err := Read(strings.NewReader("\x00\x00\x08\x00"), MaxHello, new(Hello)); !errors.Is(err, ErrMalformed) {
		t.Error("a stranger's long frame:", err)
	}
}

// FuzzFrame: whatever is read obeys the limits and is written the same way again.
func FuzzFrame(f *testing.F) {
	for kind, v := range []frame{
		&Hello{Version: 1, Secret: make([]byte, 16), Nick: "n"}, &Welcome{Version: 1}, &Answer{Status: []Status{Taken}},
		&Batch{Read: 3, Messages: []Message{
			{ID: 1, Text: "x"}, {ID: 2, Room: room, Members: &Members{Name: "r", IDs: members(2)}},
			{ID: 3, File: &File{Name: "f", Size: 9}}, {ID: 4, Reply: &Reply{ID: 1}}, {ID: 5, Room: room, Leave: true},
		}},
	} {
		b, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(kind), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		v := []frame{new(Hello), new(Welcome), new(Answer), new(Batch)}[kind%4]
		if decode(b, v) != nil {
			return
		}
		again, err := encode(v)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x, %v", b, again, err)
		}
	})
}
