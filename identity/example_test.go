package identity_test

import (
	"fmt"

	"github.com/splitmesh/splitmesh/identity"
)

func Example() {
	key, err := identity.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	sig := key.Sign("greeting", []byte("hello"))
	fmt.Println(key.ID().Verify("greeting", []byte("hello"), sig))
	fmt.Println(key.ID().Verify("farewell", []byte("hello"), sig))
	// Output:
	// true
	// false
}

func ExampleParseID() {
	id, err := identity.ParseID("/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(id)

	_, err = identity.ParseID("d3i6r6xcysqujof6r7kli67t2ozuxby4hswpmaipbzbni5h44j7cekyc")
	fmt.Println(err)
	// Output:
	// d3i6r6xcysqujof6r7kli67t2ozuxby4hswpmaipbzbni5h44j7cekyb
	// identity: "d3i6r6xcysqujof6r7kli67t2ozuxby4hswpmaipbzbni5h44j7cekyc" is no ID: the checksum does not match: a character is mistyped; copy the ID again
}
