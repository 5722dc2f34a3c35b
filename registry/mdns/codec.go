package mdns

import (
	"bytes"
	"encoding/base32"
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Everything that is said is a DNS message with one question or one answer, both about a name of the form
//
//	LABEL._splitmesh._udp.local.
//
// where LABEL is base32 of 32 bytes that look random to whoever lacks the network key. A question is of type TXT. An
// answer is a TXT record whose strings, put together, are a sealed record: 255 bytes each, and the rest in the last.
const (
	service   = "._splitmesh._udp.local."
	labelSize = 32
	labelText = 52 // of a label's base32
	ttl       = 10 // seconds that other programs' caches keep an answer, whose name is never asked for again
	maxString = 255
)

// What comes before the strings of an answer: the header, the name, its type, class, TTL and the length of the data.
const answerOverhead = 12 + 1 + labelText + len(service) + 10

// maxMessage is the longest message there is. RFC 6762 §17 would allow 9,000 bytes, headers of IP and UDP included.
const maxMessage = answerOverhead + maxSealed + (maxSealed+maxString-1)/maxString

var (
	encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

	// The headers of all messages there are: no ID, no flags, one question; or a response with authority, one answer.
	questionHeader = []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	answerHeader   = []byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0}
)

// errForeign is of a message that none of us wrote: most of what is on port 5353.
var errForeign = errors.New("not a message of this service")

// A label tells messages apart: a question's holds what is asked for, an answer's is that of the question or random.
type label [labelSize]byte

// A message is a question, or an answer if sealed is not nil.
type message struct {
	label  label
	sealed []byte
}

// encode returns the one encoding of m, whose sealed has one of the sizes that sealing makes.
func (m message) encode() []byte {
	name := dnsmessage.MustNewName(encoding.EncodeToString(m.label[:]) + service)
	var b []byte
	var err error
	if m.sealed == nil {
		msg := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}}}
		b, err = msg.Pack()
	} else {
		var texts []string
		for rest := m.sealed; len(rest) > 0; {
			n := min(len(rest), maxString)
			texts, rest = append(texts, string(rest[:n])), rest[n:]
		}
		msg := dnsmessage.Message{
			Header: dnsmessage.Header{Response: true, Authoritative: true},
			Answers: []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl},
				Body:   &dnsmessage.TXTResource{TXT: texts},
			}},
		}
		b, err = msg.Pack()
	}
	if err != nil { // all parts are short enough
		panic("mdns: encoding a message: " + err.Error())
	}
	return b
}

// decode reads what encode writes, and refuses everything else with errForeign. It keeps nothing of b.
func decode(b []byte) (message, error) {
	if len(b) > maxMessage || len(b) < len(questionHeader) {
		return message{}, errForeign
	}
	var p dnsmessage.Parser
	if _, err := p.Start(b); err != nil {
		return message{}, errForeign
	}
	var m message
	switch header := b[:len(questionHeader)]; {
	case bytes.Equal(header, questionHeader):
		q, err := p.Question()
		if err != nil || !m.label.set(q.Name) {
			return message{}, errForeign
		}
	case bytes.Equal(header, answerHeader):
		if err := p.SkipAllQuestions(); err != nil { // there are none, but the parser wants them over
			return message{}, errForeign
		}
		h, err := p.AnswerHeader()
		if err != nil || h.Type != dnsmessage.TypeTXT || !m.label.set(h.Name) {
			return message{}, errForeign
		}
		txt, err := p.TXTResource()
		if err != nil {
			return message{}, errForeign
		}
		m.sealed = []byte(strings.Join(txt.TXT, ""))
		if !sealedSize(len(m.sealed)) {
			return message{}, errForeign
		}
	default:
		return message{}, errForeign
	}
	// What is left to refuse are second spellings: pointers in names, capitals, classes, other cuts of the strings.
	if !bytes.Equal(m.encode(), b) {
		return message{}, errForeign
	}
	return m, nil
}

// set sets l to what the name says, if that is one of this service.
func (l *label) set(name dnsmessage.Name) bool {
	text, ok := strings.CutSuffix(name.String(), service)
	if !ok || len(text) != labelText {
		return false
	}
	n, err := encoding.Decode(l[:], []byte(text))
	return err == nil && n == labelSize
}
