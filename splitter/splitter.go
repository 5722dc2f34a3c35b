// Package splitter decides how one lane's bytes are divided over the paths of a
// session and puts them together again at the other end.
//
// It is pure: no I/O, no clock, no goroutine. A [Policy] says what the division
// is for. A [Scheduler] picks the path of each segment, a [ShareWindow] keeps any
// one relay from carrying too much, a [Reassembler] restores the order:
//
//	path, ahead := splitter.ShortestQueue{}.Next(now, splitter.Job{Size: size, Backlog: backlog}, paths) // -1: wait
//	err := reassembler.Insert(offset, payload, owner, deliver)
//
// The package promises that a byte inserted is delivered exactly once and in
// order, that what waits out of order never exceeds the credit given, and that a
// MaxShare holds over every sliding [ShareSpan] bytes, re-sent ones included.
package splitter
