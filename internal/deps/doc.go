// Package deps holds no code, only tests about the tree as a whole: which
// package may import which, what importing mesh costs, and that the
// documentation stands up.
//
// The layers are the design. A package that reaches over its neighbour's head
// compiles and works, and a year later nothing can be taken apart; so each rule
// is a row of a table here, with its reason, and a test fails when it is broken.
// The tests ask the go command about the tree, which go test's cache doesn't
// see: run them with -count=1, as make test does.
package deps
