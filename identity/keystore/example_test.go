package keystore_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/splitmesh/splitmesh/identity/keystore"
)

func Example() {
	dir, err := os.MkdirTemp("", "keystore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path, passphrase := filepath.Join(dir, "key"), []byte("correct horse battery staple")

	first, err := keystore.LoadOrCreate(path, passphrase, &keystore.Options{WorkFactor: 10}) // nil, but for examples
	if err != nil {
		fmt.Println(err)
		return
	}
	second, err := keystore.LoadOrCreate(path, passphrase, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(first.ID() == second.ID())
	// Output: true
}
