package websocket

import (
	"sync"
	"time"
)

// A deadline is the read or the write deadline of a connection. What is in
// flight when it expires is killed, as nothing else can interrupt it.
type deadline struct {
	kill func() // called without mu

	mu       sync.Mutex
	timer    *time.Timer // nil when there is none to come
	setting  int         // counts set, so that a timer knows whether it is still meant
	expired  bool
	inFlight int
}

// set moves the deadline to t; the zero time is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.setting++
	wait := time.Until(t)
	d.expired = !t.IsZero() && wait <= 0
	if !t.IsZero() && wait > 0 {
		setting := d.setting
		d.timer = time.AfterFunc(wait, func() { d.expire(setting) })
	}
	kill := d.expired && d.inFlight > 0
	d.mu.Unlock()
	if kill {
		d.kill()
	}
}

func (d *deadline) expire(setting int) {
	d.mu.Lock()
	d.expired = d.expired || d.setting == setting
	kill := d.setting == setting && d.inFlight > 0
	d.mu.Unlock()
	if kill {
		d.kill()
	}
}

// begin reports false when the deadline has passed. Otherwise end must follow.
func (d *deadline) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired {
		return false
	}
	d.inFlight++
	return true
}

func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
}

// busy reports whether something is in flight.
func (d *deadline) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inFlight > 0
}
