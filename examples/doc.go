// Package examples is the home of the programs that show splitmesh at work; each
// is a directory below this one, with its own package comment.
//
// They are a module of their own so that what they need beyond the library never
// reaches the go.sum of those who import it. Inside a clone, the workspace file
// go.work ties the modules together, so that go run ./examples/NAME works from
// the root with nothing to install.
package examples
