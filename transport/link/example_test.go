package link_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/splitmesh/splitmesh/transport/link"
)

func Example() {
	l := link.New(link.Config{Up: link.Shape{Rate: 1 << 20, Delay: time.Millisecond}})
	a, b := l.Pipe(nil, nil).Conns()
	defer a.Close()
	defer b.Close()

	l.BlackHole()
	fmt.Fprint(a, "held, not lost")
	up, _ := l.Carried()
	fmt.Println(up, "bytes arrived")

	l.Heal()
	got := make([]byte, 14)
	_, err := io.ReadFull(b, got)
	fmt.Printf("%q %v\n", got, err)

	l.Cut()
	_, err = b.Read(got)
	fmt.Println(errors.Is(err, syscall.ECONNRESET))
	// Output:
	// 0 bytes arrived
	// "held, not lost" <nil>
	// true
}
