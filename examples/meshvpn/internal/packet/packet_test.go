package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	a4, b4 = netip.MustParseAddr("100.64.1.1"), netip.MustParseAddr("100.64.2.2")
	a6, b6 = netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::2")
)

// v4 and v6 make packets around a payload; edit may change the header's bytes.
func v4(proto uint8, payload []byte, edit ...func(b []byte)) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[1], b[8], b[9] = 0x45, 46<<2, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	putAddrs(b[12:], a4, b4)
	b = append(b, payload...)
	for _, f := range edit {
		f(b)
	}
	return b
}

func v6(next uint8, payload []byte, edit ...func(b []byte)) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[1], b[6], b[7] = 0x6b, 0x80, next, 64 // DSCP 46
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	putAddrs(b[8:], a6, b6)
	b = append(b, payload...)
	for _, f := range edit {
		f(b)
	}
	return b
}

func tcp(n int) []byte {
	b := make([]byte, 20+n)
	binary.BigEndian.PutUint16(b, 1234)
	binary.BigEndian.PutUint16(b[2:], 22)
	b[12] = 5 << 4
	return b
}

func flagged(flags byte) []byte {
	b := tcp(0)
	b[13] = flags
	return b
}

// optioned is a packet with options of IPv4.
func optioned(options []byte) []byte {
	b := v4(TCP, slices.Concat(options, tcp(0)))
	b[0] += byte(len(options) / 4)
	return b
}

func udp(n int) []byte {
	b := make([]byte, 8+n)
	binary.BigEndian.PutUint16(b, 5353)
	binary.BigEndian.PutUint16(b[2:], 53)
	return b
}

func echo(kind uint8) []byte { return []byte{kind, 0, 0, 0, 7, 9, 0, 1} }

func offset(units uint16, more bool) func([]byte) {
	return func(b []byte) {
		if more {
			units |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], units)
	}
}

// fragment6 is a fragment header before what follows.
func fragment6(next uint8, units uint16, more uint16, rest []byte) []byte {
	b := make([]byte, 8)
	b[0] = next
	binary.BigEndian.PutUint16(b[2:], units<<3|more)
	binary.BigEndian.PutUint32(b[4:], 77)
	return slices.Concat(b, rest)
}

// TestParse: what headers say, and which are refused.
func TestParse(t *testing.T) {
	options := append([]byte{TCP, 0, 1, 4, 0, 0, 0, 0}, tcp(3)...)
	for name, tt := range map[string]struct {
		b    []byte
		want Packet
		err  error
	}{
		"tcp":                 {v4(TCP, tcp(5)), Packet{Proto: TCP, Header: 20, SrcPort: 1234, DstPort: 22}, nil},
		"udp":                 {v4(UDP, udp(5)), Packet{Proto: UDP, Header: 20, SrcPort: 5353, DstPort: 53}, nil},
		"ping":                {v4(ICMP, echo(8)), Packet{Proto: ICMP, Header: 20, SrcPort: 0x709, Type: 8}, nil},
		"other":               {v4(132, []byte{1}), Packet{Proto: 132, Header: 20}, nil},
		"tcp over 6":          {v6(TCP, tcp(5)), Packet{Proto: TCP, Header: 40, SrcPort: 1234, DstPort: 22}, nil},
		"ping over 6":         {v6(ICMPv6, echo(129)), Packet{Proto: ICMPv6, Header: 40, DstPort: 0x709, Type: 129}, nil},
		"options":             {v6(60, options), Packet{Proto: TCP, Header: 48, SrcPort: 1234, DstPort: 22}, nil},
		"first fragment":      {v4(UDP, udp(8), offset(0, true)), Packet{Proto: UDP, Header: 20, SrcPort: 5353, DstPort: 53, Fragment: true}, nil},
		"later fragment":      {v4(UDP, []byte{1}, offset(3, false)), Packet{Proto: UDP, Header: 20, Fragment: true, Later: true}, nil},
		"later fragment of 6": {v6(44, fragment6(TCP, 200, 1, []byte{1})), Packet{Proto: TCP, Header: 48, Fragment: true, Later: true, ID: 77}, nil},
		"later of a ping":     {v6(44, fragment6(ICMPv6, 200, 0, []byte{1})), Packet{Proto: ICMPv6, Header: 48, Fragment: true, Later: true, ID: 77}, nil},
		"no fragment":         {v6(44, fragment6(TCP, 0, 0, tcp(0))), Packet{Proto: TCP, Header: 48, SrcPort: 1234, DstPort: 22, ID: 77}, nil},

		"a beginning":     {v4(TCP, flagged(syn)), Packet{Proto: TCP, Header: 20, SrcPort: 1234, DstPort: 22, Begins: true}, nil},
		"an answer to it": {v4(TCP, flagged(syn|ack)), Packet{Proto: TCP, Header: 20, SrcPort: 1234, DstPort: 22}, nil},
		"options of 4":    {optioned([]byte{1, 7, 3, 4, 148, 4, 0, 0}), Packet{Proto: TCP, Header: 28, SrcPort: 1234, DstPort: 22}, nil},

		"a loose route in it":  {optioned([]byte{1, 131, 7, 4, 192, 0, 2, 1}), Packet{}, ErrHeader},
		"a strict route in it": {optioned([]byte{137, 7, 4, 192, 0, 2, 1, 0}), Packet{}, ErrHeader},
		"an endless option":    {optioned([]byte{7, 0, 0, 0}), Packet{}, ErrHeader},
		"a long option":        {optioned([]byte{7, 5, 0, 0}), Packet{}, ErrHeader},
		"options in fragments": {v6(44, fragment6(60, 0, 1, options)), Packet{}, ErrHeader},

		"nothing":             {nil, Packet{}, ErrShort},
		"half a header":       {v6(TCP, nil)[:30], Packet{}, ErrShort},
		"version":             {v4(TCP, tcp(0), func(b []byte) { b[0] = 0x55 }), Packet{}, ErrVersion},
		"header length":       {v4(TCP, tcp(0), func(b []byte) { b[0] = 0x44 }), Packet{}, ErrHeader},
		"cut":                 {v4(TCP, tcp(9))[:45], Packet{}, ErrLength},
		"padded":              {append(v4(TCP, tcp(9)), 0), Packet{}, ErrLength},
		"short tcp":           {v4(TCP, tcp(0)[:19]), Packet{}, ErrShort},
		"long tcp header":     {v4(TCP, func() []byte { b := tcp(0); b[12] = 15 << 4; return b }()), Packet{}, ErrShort},
		"overlapping":         {v4(TCP, []byte{1}, offset(1, false)), Packet{}, ErrFragments},
		"tiny first":          {v4(TCP, tcp(0)[:8], offset(0, true)), Packet{}, ErrShort},
		"a route in it":       {v6(43, options), Packet{}, ErrHeader},
		"long options":        {v6(60, []byte{TCP, 200, 0, 0, 0, 0, 0, 0}), Packet{}, ErrShort},
		"fragment of another": {v6(44, fragment6(44, 0, 1, fragment6(TCP, 9, 0, nil))), Packet{}, ErrHeader},
		"endless options": {v6(60, func() (b []byte) {
			for range 9 {
				b = append(b, 60, 0, 1, 4, 0, 0, 0, 0)
			}
			return b
		}()), Packet{}, ErrHeader},
		"icmp of the other": {v6(ICMP, echo(8)), Packet{}, ErrHeader},
	} {
		got, err := Parse(tt.b)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
		if err != nil {
			continue
		}
		tt.want.DSCP, tt.want.Src, tt.want.Dst = 46, a4, b4
		if tt.b[0]>>4 == 6 {
			tt.want.Src, tt.want.Dst = a6, b6
		}
		if got.IsError() {
			t.Errorf("%s: it is taken for an error", name)
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// vnet puts a virtio header before a packet.
func vnet(b []byte, flags, gso uint8, segment, start, at uint16) []byte {
	h := make([]byte, VnetSize, VnetSize+len(b))
	h[0], h[1] = flags, gso
	for i, v := range []uint16{0, segment, start, at} {
		binary.NativeEndian.PutUint16(h[2+2*i:], v)
	}
	return append(h, b...)
}

// TestThere: what one device read, the other writes.
func TestThere(t *testing.T) {
	for name, tt := range map[string]struct {
		b    []byte
		kind Kind
		err  error
	}{
		"whole":           {vnet(v4(TCP, tcp(5)), 0, 0, 0, 0, 0), Whole, nil},
		"partial":         {vnet(v4(TCP, tcp(5)), 1, 0, 0, 20, 16), Partial, nil},
		"partial udp":     {vnet(v6(UDP, udp(5)), 1, 0, 0, 40, 6), Partial, nil},
		"segments":        {vnet(v4(TCP, tcp(9000)), 1, 1, 1400, 20, 16), Segments, nil},
		"segments of 6":   {vnet(v6(TCP, tcp(9000)), 1, 4, 1400, 40, 16), Segments, nil},
		"another version": {vnet(v6(TCP, tcp(9000)), 1, 1, 1400, 40, 16), 0, ErrOffload},
		"not summed":      {vnet(v4(TCP, tcp(9000)), 0, 1, 1400, 20, 16), 0, ErrOffload},
		"tiny segments":   {vnet(v4(TCP, tcp(9000)), 1, 1, 1, 20, 16), 0, ErrOffload},
		"udp segments":    {vnet(v4(UDP, udp(9000)), 1, 5, 1400, 20, 6), 0, ErrOffload},
		"outside":         {vnet(v4(132, make([]byte, 20)), 1, 0, 0, 20, 19), 0, ErrOffload},
	} {
		p, err := Parse(tt.b[VnetSize:])
		if err != nil {
			t.Fatal(name, err)
		}
		sent := append([]byte(nil), tt.b...)
		frame, err := p.Seal(sent)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		kind, size, segment, err := ReadHeader(frame)
		if err != nil || kind != tt.kind || size != len(tt.b)-VnetSize {
			t.Errorf("%s: %v of %d, %v", name, kind, size, err)
		}
		if err := p.Open(sent, kind, segment); err != nil {
			t.Error(name, err)
		}
		want := append([]byte(nil), tt.b...)
		binary.NativeEndian.PutUint16(want[2:], binary.NativeEndian.Uint16(sent[2:])) // the header's length is ours to say
		if string(sent) != string(want) {
			t.Errorf("%s: %x, want %x", name, sent[:VnetSize], want[:VnetSize])
		}
	}
}

// TestChecksum: one that the other end can't complete is completed here.
func TestChecksum(t *testing.T) {
	b := vnet(v4(132, []byte{1, 2, 3, 4, 0, 0, 7}), 1, 0, 0, 20, 4)
	p, err := Parse(b[VnetSize:])
	if err != nil {
		t.Fatal(err)
	}
	frame, err := p.Seal(b)
	if err != nil || Kind(frame[0]) != Whole {
		t.Fatal(frame, err)
	}
	if s := fold(sum(0, frame[HeaderSize+20:])); s != 0xffff {
		t.Errorf("the sum is %x", s)
	}
}

// TestUnreachable: an error is a packet that says what it is about; and some things cause none.
func TestUnreachable(t *testing.T) {
	for name, tt := range map[string]struct {
		b    []byte
		none bool
	}{
		"v4":        {v4(TCP, tcp(9000)), false},
		"v6":        {v6(UDP, udp(9000)), false},
		"ping":      {v6(ICMPv6, echo(128)), false},
		"an error":  {v4(ICMP, []byte{3, 0, 0, 0, 0, 0, 0, 0}), true},
		"a later":   {v4(UDP, udp(0), offset(100, false)), true},
		"multicast": {v4(UDP, udp(0), func(b []byte) { copy(b[16:], []byte{224, 0, 0, 251}) }), true},
	} {
		p, err := Parse(tt.b)
		if err != nil {
			t.Fatal(name, err)
		}
		for why := NoRoute; why <= Prohibited; why++ {
			out := p.Unreachable(tt.b, why)
			if (out == nil) != tt.none {
				t.Errorf("%s: %x", name, out)
			}
			if out == nil {
				continue
			}
			e, err := Parse(out[VnetSize:])
			if err != nil || e.Src != p.Dst || e.Dst != p.Src || !e.IsError() {
				t.Fatalf("%s: %+v %v", name, e, err)
			}
			icmp := out[VnetSize+e.Header:]
			s := sum(0, icmp)
			if e.Proto == ICMPv6 {
				s = sum(uint64(len(icmp))+ICMPv6, out[VnetSize+8:])
			}
			if fold(s) != 0xffff {
				t.Errorf("%s: a wrong checksum", name)
			}
			if q, err := Quoted(icmp[8:]); err != nil || q != p {
				t.Errorf("%s: quoted %+v, %v", name, q, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{
		v4(TCP, tcp(5)), v6(UDP, udp(5)), v4(ICMP, echo(8)), v6(60, append([]byte{TCP, 0, 1, 4, 0, 0, 0, 0}, tcp(3)...)),
		v4(UDP, []byte{1}, offset(3, true)), v6(44, fragment6(TCP, 200, 1, []byte{1})),
	} {
		f.Add(b, uint8(1), uint8(1), uint16(1400), uint16(20), uint16(16))
	}
	f.Fuzz(func(t *testing.T, b []byte, flags, gso uint8, segment, start, at uint16) {
		_, _ = Quoted(b)
		p, err := Parse(b)
		if err != nil {
			return
		}
		if p.Header > len(b) {
			t.Fatal(p.Header)
		}
		if e := p.Unreachable(b, NoHost); e != nil {
			if q, err := Parse(e[VnetSize:]); err != nil || q.Src != p.Dst || !q.IsError() {
				t.Fatal(q, err)
			}
		}
		dev := vnet(b, flags, gso, segment, start, at)
		frame, err := p.Seal(dev)
		if err != nil {
			return
		}
		kind, size, segment, err := ReadHeader(frame)
		if err != nil || size != len(b) || kind > Segments {
			t.Fatal(kind, size, err)
		}
		if err := p.Open(dev, kind, segment); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for kind := range uint8(5) {
		f.Add(kind, uint16(1400), v4(TCP, tcp(99)))
	}
	f.Fuzz(func(t *testing.T, kind uint8, segment uint16, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		room := append(make([]byte, VnetSize), b...)
		if p.Open(room, Kind(kind), segment) != nil || room[0] == 0 {
			return
		}
		start, at := int(binary.NativeEndian.Uint16(room[6:])), int(binary.NativeEndian.Uint16(room[8:]))
		if length := int(binary.NativeEndian.Uint16(room[2:])); start+at+2 > len(b) || length > len(b) {
			t.Fatal(start, at, length)
		}
	})
}
