// Hello is the smallest program that dials: it says hello to the peer and
// service named by its argument, and prints the answer.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/splitmesh/splitmesh/mesh"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: hello PEER:SERVICE")
	}
	conn, err := mesh.Dial(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		log.Fatal(err)
	}
}
