// Package experiments shows what a session promises of unequal, dying and
// returning paths, on emulated links, and draws it.
//
//	make experiments
//
// runs every experiment in full and prints a line for each figure, with the bar
// that it has to pass and the seed that repeats it:
//
//	EQUAL_3 = 2.97 × (bar ≥ 2.85, seed 1) ok
//
// The drawings go to docs/experiments, whose README says what was measured and
// how. An ordinary go test runs each experiment in a short form, which checks
// that every byte arrives and holds no figure against a bar.
//
// A mesh of real nodes runs in each experiment: a dialler, a listener, and relays
// that can't tell the links between them from real ones. Nearly all run in a
// testing/synctest bubble, where time is virtual: there, links keep their rates
// and delays exactly, however slow the machine is, and a figure says nothing
// about it. The seed fixes what is sent, and when what breaks; keys, and which of
// two goroutines runs first, are left to chance.
package experiments
