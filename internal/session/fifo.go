package session

// A fifo is a queue in one array, which it goes on using: what passes through it
// allocates nothing once it has its size.
type fifo[T any] struct {
	all  []T
	head int // all[head:] is in the queue
}

// keepEmpty is how large an array an empty fifo keeps when it rests, in elements.
const keepEmpty = 4

func (f *fifo[T]) len() int { return len(f.all) - f.head }

// items are those in the queue, first to last, until it changes.
func (f *fifo[T]) items() []T { return f.all[f.head:] }

func (f *fifo[T]) push(x T) {
	if len(f.all) == cap(f.all) && f.head > len(f.all)/2 {
		n := copy(f.all, f.all[f.head:])
		clear(f.all[n:])
		f.all, f.head = f.all[:n], 0
	}
	f.all = append(f.all, x)
}

// drop takes the first n off.
func (f *fifo[T]) drop(n int) {
	clear(f.all[f.head : f.head+n])
	f.head += n
	if f.head == len(f.all) {
		f.all, f.head = f.all[:0], 0
	}
}

// rest gives the array back if there is nothing in it: for a moment in which little
// goes on.
func (f *fifo[T]) rest() {
	if len(f.all) == 0 && cap(f.all) > keepEmpty {
		f.all = nil
	}
}
