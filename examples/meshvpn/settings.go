package main

import (
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// settings are all that can be set.
type settings struct {
	Node node.Settings `name:"node"`
	Log  program.Log   `name:"log"`
}
