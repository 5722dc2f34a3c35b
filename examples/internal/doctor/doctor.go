// Package doctor finds out, step by step, why a peer's service can't be reached.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// A Doctor examines from where a node stands.
type Doctor struct {
	Node *mesh.Node
	// State is the directory that the program writes to; "" is not looked at.
	State string
	// Clocks are web servers whose time is compared with ours: the registries, say.
	Clocks []string
	// RelayedOnly examines a dial that takes no direct path.
	RelayedOnly bool
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// A Step is one thing that was looked at.
type Step struct {
	Name   string `json:"name"`
	Target string `json:"target,omitempty"`
	// Cause is what is wrong; empty: nothing.
	Cause  Cause  `json:"cause,omitempty"`
	Detail string `json:"detail"`
	// Skipped says that it could not be looked at, which is no fault.
	Skipped bool `json:"skipped,omitempty"`
}

// A Report is what came of an examination.
type Report struct {
	Steps []Step `json:"steps"`
	// Cause is the one that explains most; empty: the service was reached.
	Cause  Cause  `json:"cause,omitempty"`
	Advice string `json:"advice,omitempty"`
}

const (
	clockSkew   = registry.MaxSkew
	stepTimeout = 10 * time.Second
	dialTimeout = 40 * time.Second // longer than a dial waits by itself
)

// examination is one that is under way.
type examination struct {
	*Doctor
	tell   func(Step)
	report Report
}

// Examine looks at everything between this node and a service, "PEER:SERVICE", tells each step as it is done, and
// reports the cause that explains most.
func (d *Doctor) Examine(ctx context.Context, target string, tell func(Step)) Report {
	e := &examination{Doctor: d, tell: tell}
	if e.Now == nil {
		e.Now = time.Now
	}
	e.disk()
	e.clock(ctx)
	if id, service, ok := e.name(ctx, target); ok {
		rec := e.record(ctx, id)
		e.addresses(ctx, id, rec)
		e.relays(rec)
		e.dial(ctx, id, service)
	}
	e.conclude()
	return e.report
}

func (e *examination) add(s Step) {
	e.report.Steps = append(e.report.Steps, s)
	if e.tell != nil {
		e.tell(s)
	}
}

// conclude picks the cause that is nearest to the service: what fails later on the way explains more than what fails on
// one way of several. Of a service that was reached only what is wrong with this machine counts.
func (e *examination) conclude() {
	best := -1
	if n := len(e.report.Steps); n > 0 && e.report.Steps[n-1].Name == stepDial && e.report.Steps[n-1].Cause == "" {
		best = rank(State) - 1
	}
	for i := range e.report.Steps {
		s := &e.report.Steps[i]
		if r := rank(s.Cause); r > best {
			best = r
			e.report.Cause = s.Cause
		}
	}
	e.report.Advice = advice[e.report.Cause]
}

// Names of steps.
const (
	stepDisk, stepClock, stepName, stepRecord = "disk", "clock", "name", "record"
	stepAddress, stepRelays, stepDial         = "address", "relays", "dial"
)

// disk writes a little to the state directory.
func (e *examination) disk() {
	if e.State == "" {
		return
	}
	s := Step{Name: stepDisk, Target: e.State, Detail: "it can be written to"}
	f, err := os.CreateTemp(e.State, ".doctor-*")
	if err == nil {
		_, err = f.Write(make([]byte, 64<<10))
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		s.Cause = FullDisk
	case err != nil:
		s.Cause = State
	}
	if err != nil {
		s.Detail = err.Error()
	}
	e.add(s)
}

// clock compares the time with that of web servers.
func (e *examination) clock(ctx context.Context) {
	for _, u := range e.Clocks {
		s := Step{Name: stepClock, Target: u}
		their, err := date(ctx, u)
		off := e.Now().Sub(their).Round(time.Second)
		switch {
		case err != nil:
			s.Skipped, s.Detail = true, err.Error()
			if c := causeOf(err); c == Certificate {
				s.Cause, s.Skipped = c, false
			}
		case off.Abs() > clockSkew:
			s.Cause = WrongClock
			s.Detail = fmt.Sprintf("this machine's clock is off by %v", off)
		default:
			s.Detail = fmt.Sprintf("this machine's clock agrees to %v", max(off.Abs(), time.Second))
		}
		e.add(s)
	}
}

// date asks a web server for the time.
func date(ctx context.Context, u string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, u, nil)
	if err != nil {
		return time.Time{}, err
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return time.Time{}, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	res.Body.Close()
	return http.ParseTime(res.Header.Get("Date"))
}

// name finds out whom the target means.
func (e *examination) name(ctx context.Context, target string) (id identity.ID, service string, ok bool) {
	peer, service, _ := strings.Cut(target, ":")
	name, named := strings.CutSuffix(peer, ".mesh")
	if !named {
		a, err := mesh.ParseAddr(target)
		if err != nil {
			e.add(Step{Name: stepName, Target: target, Cause: BadTarget, Detail: err.Error()})
			return id, "", false
		}
		e.add(Step{Name: stepName, Target: target, Detail: "it is an ID, which needs no directory"})
		return a.ID, a.Service, true
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var why error
	for _, r := range []any{e.Node.Names, e.Node.Directory} {
		r, can := r.(mesh.Resolver)
		if !can {
			continue
		}
		found, err := r.Resolve(ctx, name)
		if err == nil {
			e.add(Step{Name: stepName, Target: peer, Detail: "it is " + found.String()})
			return found, service, true
		}
		why = errors.Join(why, err)
	}
	s := Step{Name: stepName, Target: peer, Cause: UnknownName, Detail: "this node knows no names"}
	if why != nil {
		s.Detail = why.Error()
	}
	if c := causeOf(why); c == DNS || c == Blocked || c == Certificate {
		s.Cause = c
	}
	e.add(s)
	return id, "", false
}

// record looks the peer up.
func (e *examination) record(ctx context.Context, id identity.ID) *registry.Record {
	s := Step{Name: stepRecord, Target: id.Short()}
	if e.Node.Directory == nil {
		s.Skipped, s.Detail = true, "this node has no directory: only the addresses of bootstrap count"
		e.add(s)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	rec, err := e.Node.Directory.Lookup(ctx, id)
	if err == nil {
		err = rec.Check(e.Now())
	}
	switch {
	case errors.Is(err, registry.ErrExpired): // which may be called not found too
		s.Cause, s.Detail = ExpiredRecord, err.Error()
	case errors.Is(err, registry.ErrFuture):
		s.Cause, s.Detail = WrongClock, err.Error()
	case errors.Is(err, registry.ErrNotFound):
		s.Cause, s.Detail = NoRecord, err.Error()
	case err != nil:
		if s.Cause = causeOf(err); s.Cause == "" {
			s.Cause = Directory
		}
		s.Detail = err.Error()
	case rec.Revoked:
		s.Cause, s.Detail = Revoked, "the peer's key was revoked"
	default:
		s.Detail = fmt.Sprintf("made %s, valid until %s, with %d addresses",
			time.UnixMilli(rec.Sequence).UTC().Format(time.RFC3339), time.UnixMilli(rec.Expires).UTC().Format(time.RFC3339), len(rec.Addrs))
	}
	e.add(s)
	if s.Cause != "" {
		return nil
	}
	return rec
}

// relays looks at whether there are enough that have nothing in common.
func (e *examination) relays(rec *registry.Record) {
	if !e.RelayedOnly || rec == nil {
		return
	}
	groups, relays := make(map[string]bool), make(map[identity.ID]bool)
	for _, a := range rec.Addrs {
		relay, _, ok, err := transport.SplitCircuit(a)
		if err != nil || !ok {
			continue
		}
		if base, id, ok, err := transport.SplitPeer(relay); err == nil && ok {
			relays[id] = true
			groups[transport.NetworkGroup(base)] = true
		}
	}
	s := Step{Name: stepRelays, Detail: fmt.Sprintf("the peer is reserved at %d relays, in %d networks", len(relays), len(groups))}
	if len(relays) < 2 {
		s.Cause = NoDisjointRelay
	}
	e.add(s)
}

// dial does what the program would.
func (e *examination) dial(ctx context.Context, id identity.ID, service string) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	target := id.String() + ":" + service
	s := Step{Name: stepDial, Target: id.Short() + ":" + service}
	c, err := (&mesh.Dialer{Node: e.Node, RelayedOnly: e.RelayedOnly}).Dial(ctx, target)
	if err != nil {
		if s.Cause = causeOf(err); s.Cause == "" {
			s.Cause = Unknown
		}
		s.Detail = err.Error()
		e.add(s)
		return
	}
	defer c.Close()
	var paths []string
	for _, p := range c.(*mesh.Conn).Paths() {
		via := "direct, to " + p.Remote
		if !p.Relay.IsZero() {
			via = "by relay " + p.Relay.Short()
		}
		paths = append(paths, fmt.Sprintf("%s (%v, %v)", via, p.State, p.RTT.Round(10*time.Microsecond)))
	}
	s.Detail = "reached " + strings.Join(paths, "; ")
	e.add(s)
}
