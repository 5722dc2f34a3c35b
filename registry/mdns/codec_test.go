package mdns

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/splitmesh/splitmesh/registry"
)

var someLabel = label(bytes.Repeat([]byte{0xa5}, labelSize))

// answerOf returns an answer whose sealed bytes have the i-th size.
func answerOf(i int) message {
	return message{someLabel, bytes.Repeat([]byte{byte(i), 0xff, 0}, sizes[i])[:sizes[i]+sealing]}
}

func TestEncode(t *testing.T) {
	question := message{label: someLabel}
	for i, m := range []message{question, answerOf(0), answerOf(1), answerOf(2), answerOf(3)} {
		b := m.encode()
		got, err := decode(b)
		if err != nil || got.label != m.label || !bytes.Equal(got.sealed, m.sealed) {
			t.Fatalf("%d: %x is %v, %v", i, b, got, err)
		}
		// What a program that knows nothing of us reads.
		var d dnsmessage.Message
		if err := d.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if d.Response != (i > 0) || len(d.Questions)+len(d.Answers) != 1 || len(d.Authorities)+len(d.Additionals) > 0 {
			t.Errorf("%d: %v", i, d.GoString())
		}
		if i <= 2 && len(b) > 1400 {
			t.Errorf("an answer of %d bytes, more than a packet of 1,400", len(b))
		}
	}
	if n := len(answerOf(3).encode()); n != maxMessage || n > 9000-48 {
		t.Errorf("the longest answer has %d bytes, want %d", n, maxMessage)
	}
}

// Everything that is not exactly what encode writes is somebody else's.
func TestDecodeRefuses(t *testing.T) {
	name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }
	text := encoding.EncodeToString(someLabel[:])
	ask := func(n string, typ dnsmessage.Type, class dnsmessage.Class) *dnsmessage.Message {
		return &dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name(n), Type: typ, Class: class}}}
	}
	pack := func(m *dnsmessage.Message) []byte {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	answer := func(change func(*dnsmessage.Message, *dnsmessage.TXTResource)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(answerOf(0).encode()); err != nil {
			t.Fatal(err)
		}
		change(&m, m.Answers[0].Body.(*dnsmessage.TXTResource))
		return pack(&m)
	}
	question := message{label: someLabel}.encode()
	with := func(at int, c byte) []byte {
		b := bytes.Clone(question)
		b[at] = c
		return b
	}
	for what, b := range map[string][]byte{
		"nothing":        {},
		"half a header":  question[:6],
		"cut":            question[:len(question)-1],
		"a byte more":    append(bytes.Clone(question), 0),
		"an ID":          with(1, 1),
		"truncated flag": with(2, 2),
		"capitals":       with(13, 'U'),
		"spare bits":     with(12+labelText, 'b'),
		"too long":       make([]byte, maxMessage+1),
		"browsing":       pack(ask(service[1:], dnsmessage.TypePTR, dnsmessage.ClassINET)),
		"another service": pack(ask(text+"._ssh._tcp.local.", dnsmessage.TypeTXT,
			dnsmessage.ClassINET)),
		"another type":  pack(ask(text+service, dnsmessage.TypeALL, dnsmessage.ClassINET)),
		"unicast":       pack(ask(text+service, dnsmessage.TypeTXT, dnsmessage.ClassINET|1<<15)),
		"a longer name": pack(ask("a."+text+service, dnsmessage.TypeTXT, dnsmessage.ClassINET)),
		"a shorter label": pack(ask(text[1:]+service, dnsmessage.TypeTXT,
			dnsmessage.ClassINET)),
		"line breaks": pack(ask("\n"+text[1:]+service, dnsmessage.TypeTXT, dnsmessage.ClassINET)),
		"two questions": pack(func() *dnsmessage.Message {
			m := ask(text+service, dnsmessage.TypeTXT, dnsmessage.ClassINET)
			m.Questions = append(m.Questions, m.Questions...)
			return m
		}()),
		"another cut": answer(func(_ *dnsmessage.Message, txt *dnsmessage.TXTResource) {
			txt.TXT = append([]string{txt.TXT[0][:1], txt.TXT[0][1:]}, txt.TXT[1:]...)
		}),
		"an empty string": answer(func(_ *dnsmessage.Message, txt *dnsmessage.TXTResource) { txt.TXT = append(txt.TXT, "") }),
		"a byte less": answer(func(_ *dnsmessage.Message, txt *dnsmessage.TXTResource) {
			last := &txt.TXT[len(txt.TXT)-1]
			*last = (*last)[1:]
		}),
		"no data":     answer(func(_ *dnsmessage.Message, txt *dnsmessage.TXTResource) { txt.TXT = nil }),
		"another TTL": answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) { m.Answers[0].Header.TTL = 0 }),
		"flush":       answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) { m.Answers[0].Header.Class |= 1 << 15 }),
		"refused":     answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) { m.RCode = dnsmessage.RCodeRefused }),
		"no authority": answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) {
			m.Authoritative = false
		}),
		"an additional": answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) { m.Additionals = m.Answers }),
		"an address": answer(func(m *dnsmessage.Message, _ *dnsmessage.TXTResource) {
			m.Answers[0].Body = &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}
		}),
	} {
		if m, err := decode(b); !errors.Is(err, errForeign) {
			t.Errorf("%s: %x is %v, %v", what, b, m, err)
		}
	}
}

func TestPad(t *testing.T) {
	for _, n := range []int{0, 1, 510, 511, 1198, 1199, 2398, 2399, registry.MaxSize} {
		record := bytes.Repeat([]byte{1}, n)
		b := pad(record)
		if !slices.Contains(sizes[:], len(b)) || !bytes.Equal(unpad(b), record) {
			t.Errorf("%d bytes are padded to %d", n, len(b))
		}
	}
	for what, b := range map[string][]byte{
		"nothing":          {},
		"a byte":           {0},
		"no padding":       {0, 1, 1},
		"more than needed": append([]byte{0, 1, 1}, make([]byte, sizes[1]-3)...),
		"longer than all":  append([]byte{0xff, 0xff}, make([]byte, sizes[0]-2)...),
		"not zeros":        append([]byte{0, 1, 1}, bytes.Repeat([]byte{1}, sizes[0]-3)...),
	} {
		if got := unpad(b); got != nil {
			t.Errorf("%s: %x", what, got)
		}
	}
}

// FuzzDecode: what is taken for ours is what we would write, and says so to everybody who reads DNS.
func FuzzDecode(f *testing.F) {
	f.Add(message{label: someLabel}.encode())
	for i := range sizes {
		f.Add(answerOf(i).encode())
	}
	f.Add([]byte("\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x0a\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0b_splitmesh\x04_udp\x05local\x00\x00\x0c\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, errForeign) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(m.encode(), b) {
			t.Fatalf("%x became %x", b, m.encode())
		}
		var d dnsmessage.Message
		if err := d.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if len(d.Questions) == 1 && m.sealed != nil || len(d.Answers) == 1 && !strings.HasSuffix(d.Answers[0].Header.Name.String(), service) {
			t.Fatal(d.GoString())
		}
	})
}

// FuzzUnpad: what is sealed under our key was written by somebody who has it, which is no reason to believe it.
func FuzzUnpad(f *testing.F) {
	for _, n := range []int{0, 510, 511, registry.MaxSize} {
		f.Add(pad(make([]byte, n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if record := unpad(b); record != nil && !bytes.Equal(pad(record), b) {
			t.Fatalf("%x became %x", b, pad(record))
		}
	})
}
