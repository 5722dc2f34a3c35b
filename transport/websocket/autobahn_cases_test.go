//go:build !js

package websocket

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// An autobahnCase is what a peer sends, and what an echo of ours has to answer.
// After what is well-formed the peer closes with status 1000.
type autobahnCase struct {
	name     string
	sends    []piece
	chop     int // bytes a write; 0: all at once
	echoes   string
	pongs    string
	status   status // of our close frame
	violates bool   // the peer broke the rules
	closes   bool   // what it sends has a close frame
}

// autobahn lists the cases against an end of ours that is a server or a client.
func autobahn(server bool) (cases []autobahnCase) {
	good := func(name string, chop int, echoes, pongs string, sends ...piece) {
		cases = append(cases, autobahnCase{name: name, sends: sends, chop: chop, echoes: echoes, pongs: pongs, status: statusNormal})
	}
	bad := func(name string, st status, echoes, pongs string, sends ...piece) {
		for _, chop := range []int{0, 1} {
			if n := 0; chop == 1 {
				for _, p := range sends {
					n += len(p.payload) + len(p.bytes)
				}
				if n > 1000 {
					continue
				}
			}
			cases = append(cases, autobahnCase{name: fmt.Sprint(name, ", chops of ", chop), sends: sends, chop: chop, echoes: echoes, pongs: pongs, status: st, violates: true})
		}
	}
	f := func(first byte, payload string) piece { return piece{first: first, payload: payload} }
	// header is one as it stands, with a mask of zeros where the peer has to.
	header := func(b ...byte) piece {
		if server {
			b[1] |= 0x80
			b = append(b, 0, 0, 0, 0)
		}
		return piece{bytes: b}
	}

	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} { // 1.2
		for _, chop := range []int{0, 997, 1} {
			if chop != 1 || n < 1000 {
				data := strings.Repeat("0123456789*", n/11+1)[:n]
				good(fmt.Sprintf("1.2 message of %d, chops of %d", n, chop), chop, data, "", f(binMsg, data))
			}
		}
	}
	bad("1.1 text", statusUnsupported, "", "", f(text, "hello"))
	bad("1.1 text in fragments", statusUnsupported, "", "", f(0x01, "hel"), f(last, "lo"))

	good("2.1 ping without payload", 0, "", ";", f(pingMsg, ""))
	good("2.3 ping of binary", 0, "", "\x00\xff\xfe\xfd;", f(pingMsg, "\x00\xff\xfe\xfd"))
	most := strings.Repeat("p", maxControl)
	good("2.4 ping of 125", 0, "", most+";", f(pingMsg, most))
	bad("2.5 ping of 126", statusProtocolError, "", "", f(pingMsg, most+"p"))
	good("2.6 ping of 125, in chops", 1, "", most+";", f(pingMsg, most))
	good("2.7 pong unasked", 0, "", "", f(pong, ""))
	good("2.8 pong of 125 unasked, then ping", 0, "", "ping;", f(pong, most), f(pingMsg, "ping"))
	var ten []piece
	want := ""
	for i := range 10 {
		ten = append(ten, f(pingMsg, fmt.Sprint(i)))
		want += fmt.Sprint(i, ";")
	}
	good("2.10 ten pings at once", 0, "", want, ten...)
	good("2.11 ten pings in chops", 1, "", want, ten...)
	bad("2.x pong of 126", statusProtocolError, "", "", f(pong, most+"p"))

	for bits := byte(0x10); bits <= 0x70; bits += 0x10 { // 3.1 to 3.7
		bad(fmt.Sprintf("3 reserved bits %#x, after a message", bits), statusProtocolError, "first", "", f(binMsg, "first"), f(binMsg|bits, "x"))
		bad(fmt.Sprintf("3 reserved bits %#x of a ping", bits), statusProtocolError, "", "", f(pingMsg|bits, "x"))
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} { // 4.1, 4.2
		bad(fmt.Sprintf("4 opcode %#x", op), statusProtocolError, "first", "a;", f(binMsg, "first"), f(pingMsg, "a"), f(0x80|op, ""))
		bad(fmt.Sprintf("4 opcode %#x with payload", op), statusProtocolError, "", "", f(0x80|op, "x"), f(pingMsg, "unheard"))
	}

	bad("5.1 ping in fragments", statusProtocolError, "", "", f(0x09, "frag"), f(last, "ment"))
	bad("5.2 pong in fragments", statusProtocolError, "", "", f(0x0a, "frag"), f(last, "ment"))
	bad("5.x close in fragments", statusProtocolError, "", "", f(0x08, "\x03\xe8"), f(last, ""))
	good("5.3 message in two", 0, "fragments", "", f(begin, "frag"), f(last, "ments"))
	good("5.5 message in two, single bytes", 1, "fragments", "", f(begin, "frag"), f(last, "ments"))
	good("5.6 ping within a message", 0, "fragments", "ping;", f(begin, "frag"), f(pingMsg, "ping"), f(last, "ments"))
	good("5.8 ping within a message, single bytes", 1, "fragments", "ping;", f(begin, "frag"), f(pingMsg, "ping"), f(last, "ments"))
	good("5.x empty fragments", 0, "ab", "", f(begin, ""), f(more, "a"), f(more, ""), f(more, "b"), f(last, ""))
	for _, first := range []byte{last, more} {
		bad(fmt.Sprintf("5.9 continuation %#x of nothing", first), statusProtocolError, "", "", f(first, "x"), f(binMsg, "y"))
		bad(fmt.Sprintf("5.11 continuation %#x after a message", first), statusProtocolError, "done", "", f(begin, "do"), f(last, "ne"), f(first, "x"))
	}
	bad("5.18 message within a message", statusProtocolError, "frag", "", f(begin, "frag"), f(binMsg, "ments"))
	good("5.19 pings within a message of five", 0, "fragment1fragment2fragment3fragment4fragment5", "ping1;ping2;", f(begin, "fragment1"), f(more, "fragment2"),
		f(pingMsg, "ping1"), f(more, "fragment3"), f(more, "fragment4"), f(pingMsg, "ping2"), f(last, "fragment5"))

	closes := func(name string, st status, echoes string, sends ...piece) {
		cases = append(cases, autobahnCase{name: name, sends: sends, echoes: echoes, status: st, closes: true})
	}
	code := func(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }
	closes("7.1 close after a message", statusNormal, "x", f(binMsg, "x"), f(closeMsg, code(1000)))
	closes("7.1 two closes", statusNormal, "", f(closeMsg, code(1000)), f(closeMsg, code(1000)))
	closes("7.1 ping after close", statusNormal, "", f(closeMsg, code(1000)), f(pingMsg, "x"))
	closes("7.1 message after close", statusNormal, "", f(closeMsg, code(1000)), f(binMsg, "x"))
	closes("7.1 close within a message", statusNormal, "frag", f(begin, "frag"), f(closeMsg, code(1000)), f(last, "ments"))
	closes("7.1 close behind 256 KiB", statusNormal, strings.Repeat("b", MaxReadMessage), f(binMsg, strings.Repeat("b", MaxReadMessage)), f(closeMsg, code(1000)))
	closes("7.3 close without status", statusNone, "", f(closeMsg, ""))
	bad("7.3 close with a byte", statusProtocolError, "", "", f(closeMsg, "x"))
	closes("7.3 close with a reason", statusNormal, "", f(closeMsg, code(1000)+"bye ✓"))
	closes("7.3 close with a reason of 123", statusNormal, "", f(closeMsg, code(1000)+strings.Repeat("r", 123)))
	bad("7.3 close with a reason of 124", statusProtocolError, "", "", f(closeMsg, code(1000)+strings.Repeat("r", 124)))
	bad("7.5 close with a reason of no UTF-8", statusProtocolError, "", "", f(closeMsg, code(1000)+"\xce\xba\xed\xa0\x80edited"))
	for _, n := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		closes(fmt.Sprint("7.7 close with ", n), status(n), "", f(closeMsg, code(n)))
	}
	for _, n := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		bad(fmt.Sprint("7.9 close with ", n), statusProtocolError, "", "", f(closeMsg, code(n)))
	}

	for _, n := range []int{64 << 10, 128 << 10, MaxReadMessage} { // 9.2, 9.4
		data := strings.Repeat("0123456789*", n/11+1)[:n]
		good(fmt.Sprintf("9.2 message of %d", n), 0, data, "", f(binMsg, data))
		good(fmt.Sprintf("9.6 message of %d, chops", n), 4093, data, "", f(binMsg, data))
		for _, size := range []int{64, 4096, 65536} {
			if n/size > 1024 {
				continue
			}
			var sends []piece
			for at := 0; at < n; at += size {
				sends = append(sends, f(more, data[at:min(at+size, n)]))
			}
			sends[0].first |= begin
			sends[len(sends)-1].first |= last
			good(fmt.Sprintf("9.4 message of %d in fragments of %d", n, size), 0, data, "", sends...)
		}
	}
	bad("9.x message too large", statusTooBig, "", "", f(binMsg, strings.Repeat("x", MaxReadMessage+1)))
	bad("9.x message too large, announced", statusTooBig, "x", "", f(binMsg, "x"), header(binMsg, 127, 0, 0, 0, 0, 0, 4, 0, 1))
	bad("9.x message of 2^63-1, announced", statusTooBig, "", "", header(binMsg, 127, 127, 255, 255, 255, 255, 255, 255, 255))
	bad("9.x fragments too large, announced", statusTooBig, "x", "", f(begin, "x"), header(last, 127, 0, 0, 0, 0, 0, 4, 0, 0))

	bad("length with the top bit", statusProtocolError, "", "", header(binMsg, 127, 128, 0, 0, 0, 0, 0, 0, 1))
	bad("length of 125 in 16 bits", statusProtocolError, "", "", header(binMsg, 126, 0, 125))
	bad("length of 65535 in 64 bits", statusProtocolError, "", "", header(binMsg, 127, 0, 0, 0, 0, 0, 0, 255, 255))
	bad("length of 0 in 64 bits", statusProtocolError, "", "", header(binMsg, 127, 0, 0, 0, 0, 0, 0, 0, 0))
	for _, first := range []byte{binMsg, pingMsg, closeMsg} { // the mask bit of the other role
		b := []byte{first, 0}
		if !server {
			b = []byte{first, 0x80, 1, 2, 3, 4}
		}
		bad(fmt.Sprintf("mask of the other role, frame %#x", first), statusProtocolError, "", "", piece{bytes: b})
	}
	return cases
}
