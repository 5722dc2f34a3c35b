package benchmarks

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/frame"
)

// BenchmarkRecord seals and opens 32 KiB, which is what a stream writes at once:
// as one frame of ours, and as the two records that TLS 1.3 makes of it. Both
// run in turn, in memory and on one goroutine, and ours/tls is how many times as
// fast ours was.
//
// TLS 1.3 picks AES-128-GCM where there is AES in hardware, which does 10
// rounds where our AES-256 does 14; it can't be told otherwise.
func BenchmarkRecord(b *testing.B) {
	for _, suite := range []frame.Suite{frame.AES256GCM, frame.ChaCha20Poly1305} {
		b.Run(suite.String(), func(b *testing.B) { benchmarkRecord(b, suite) })
	}
}

func benchmarkRecord(b *testing.B, suite frame.Suite) {
	const size = 32 << 10
	var secret [32]byte
	rand.Read(secret[:])
	sealer, err := frame.NewSealer(suite, &secret, 0)
	if err != nil {
		b.Fatal(err)
	}
	opener, err := frame.NewOpener(suite, &secret, 0)
	if err != nil {
		b.Fatal(err)
	}
	client, server := tlsPair(b)

	plain := make([]byte, size)
	rand.Read(plain)
	wire := make([]byte, frame.HeaderSize+size+frame.TagSize)
	got := make([]byte, size)
	var ours, theirs time.Duration

	for b.Loop() {
		start := time.Now()
		copy(wire[frame.HeaderSize:], plain)
		if _, err := sealer.Seal(wire[:0], wire[frame.HeaderSize:][:size]); err != nil {
			b.Fatal(err)
		}
		if n, err := opener.Size(wire[:frame.Peek]); err != nil || n != len(wire) {
			b.Fatalf("the frame is %d bytes long, want %d: %v", n, len(wire), err)
		}
		opened, err := opener.Open(wire)
		if err != nil {
			b.Fatal(err)
		}
		copy(got, opened)
		between := time.Now()
		if _, err := client.Write(plain); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(server, got); err != nil {
			b.Fatal(err)
		}
		ours += between.Sub(start)
		theirs += time.Since(between)
	}
	if !bytes.Equal(got, plain) {
		b.Fatal("what was read is not what was written")
	}
	mega := float64(size) * float64(b.N) / 1e6
	b.ReportMetric(mega/ours.Seconds(), "ours-MB/s")
	b.ReportMetric(mega/theirs.Seconds(), "tls-MB/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ours/tls")
}

// tlsPair returns two ends of a TLS 1.3 connection after its handshake. What one
// end writes from then on waits in memory for the other to read.
func tlsPair(b *testing.B) (client, server *tls.Conn) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"peer"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)

	near, far := net.Pipe()
	clientEnd, serverEnd := &end{Conn: near}, &end{Conn: far}
	client = tls.Client(clientEnd, &tls.Config{RootCAs: roots, ServerName: "peer", MinVersion: tls.VersionTLS13})
	server = tls.Server(serverEnd, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13,
		// A ticket would be the server's first write, into a pipe that nobody reads.
		SessionTicketsDisabled: true,
	})
	served := make(chan error, 1)
	go func() { served <- server.Handshake() }() // ends with the handshake
	if err := client.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-served; err != nil {
		b.Fatal(err)
	}
	clientEnd.memory = new(bytes.Buffer)
	serverEnd.memory = clientEnd.memory
	return client, server
}

// An end is a net.Conn until it is given memory, which then takes its place.
type end struct {
	net.Conn
	memory *bytes.Buffer
}

func (e *end) Read(p []byte) (int, error) {
	if e.memory != nil {
		return e.memory.Read(p)
	}
	return e.Conn.Read(p)
}

func (e *end) Write(p []byte) (int, error) {
	if e.memory != nil {
		return e.memory.Write(p)
	}
	return e.Conn.Write(p)
}
