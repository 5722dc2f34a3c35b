package httpregistry_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/memory"
)

// A directory in memory, served to whoever has a token, and asked who is called ann.
func Example() {
	server := httptest.NewServer(httpregistry.NewHandler(memory.New(), httpregistry.Options{ReadToken: "secret"}))
	defer server.Close()
	directory := &httpregistry.Client{URL: server.URL, HTTPClient: server.Client(), Token: "secret"}

	key, err := identity.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Name: "ann"}
	if err := r.Sign(key); err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := directory.Publish(ctx, r); err != nil {
		fmt.Println(err)
		return
	}
	id, err := directory.Resolve(ctx, "ann")
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := directory.Lookup(ctx, id)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Name, found.ID == key.ID())
	// Output: ann true
}
