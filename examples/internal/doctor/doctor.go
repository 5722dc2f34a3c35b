// Package doctor finds out, step by step, why a peer's service can't be reached.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
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
	// Dialer is how the service is dialled. nil: as RelayedOnly says.
	Dialer *mesh.Dialer
	// Way names what takes the dial's way, where Further knows others.
	Way string
	// Further looks at what else is tried of a service, once the peer was reached: failed is what came of the dial. nil:
	// nothing is.
	Further func(ctx context.Context, peer identity.ID, service string, failed error) []Step
	// Spell is what a person's target means as "PEER:SERVICE", where PEER is an ID or NAME.mesh. nil: it is that.
	Spell func(target string) (string, error)
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
	// Advice is what to do, where it is not what the cause has.
	Advice string `json:"advice,omitempty"`
	// Way is what reaches the service if this step, the last with that way, did not fail; empty: the step tells nothing of that.
	Way string `json:"way,omitempty"`
	// Skipped says that it could not be looked at, which is no fault.
	Skipped bool `json:"skipped,omitempty"`
}

// A Report is what came of an examination.
type Report struct {
	Steps []Step `json:"steps"`
	// Cause is the one that explains most; empty: the service was reached, by one of the ways.
	Cause  Cause  `json:"cause,omitempty"`
	Advice string `json:"advice,omitempty"`
	// At are the relays that a cause is about.
	At []string `json:"at,omitempty"`
	// Reached are the ways by which the service was reached, and Missed, if there are any, those by which it was not.
	Reached []string `json:"reached,omitempty"`
	Missed  []Miss   `json:"missed,omitempty"`
}

// A Miss is a way that does not lead to a service which another way reaches.
type Miss struct {
	Way    string `json:"way"`
	Cause  Cause  `json:"cause"`
	Advice string `json:"advice"`
}

const (
	clockSkew   = registry.MaxSkew
	stepTimeout = 10 * time.Second
	dialTimeout = 40 * time.Second // longer than a dial waits by itself
)

// examination is one that is under way.
type examination struct {
	*Doctor
	tell    func(Step)
	report  Report
	relayed bool               // whether the peer is reached by relays, if at all
	at      map[Cause][]string // the relays that a cause is about
}

// Examine looks at everything between this node and a service, "PEER:SERVICE", tells each step as it is done, and
// reports the cause that explains most.
func (d *Doctor) Examine(ctx context.Context, target string, tell func(Step)) Report {
	e := &examination{Doctor: d, tell: tell, at: make(map[Cause][]string)}
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

// blame notes which relays a cause is about.
func (e *examination) blame(c Cause, relays ...string) {
	for _, r := range relays {
		if !slices.Contains(e.at[c], r) {
			e.at[c] = append(e.at[c], r)
		}
	}
}

// weight is a cause's rank. Of a peer that says itself where it is, and names no relay, a relay that fails explains nothing.
func (e *examination) weight(c Cause) int {
	if !e.relayed && (c == RelayBlocked || c == RelaySilent) {
		return rank(Unknown)
	}
	return rank(c)
}

// conclude picks the cause that is nearest to the service: what fails later on the way explains more than what fails on
// one way of several. Of a service that was reached only what is wrong with this machine counts.
func (e *examination) conclude() {
	r := &e.report
	ends := make(map[string]Step) // of ways
	for _, s := range r.Steps {
		if s.Way != "" {
			ends[s.Way] = s
		}
	}
	best := -1
	var missed []Miss
	for _, way := range slices.Sorted(maps.Keys(ends)) {
		switch s := ends[way]; {
		case s.Cause != "":
			missed = append(missed, Miss{way, s.Cause, cmp.Or(s.Advice, advice[s.Cause])})
		case !s.Skipped:
			r.Reached = append(r.Reached, way)
		}
	}
	if len(r.Reached) > 0 {
		r.Missed, best = missed, rank(State)-1
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		if w := e.weight(s.Cause); s.Cause != "" && w >= best && (w > best || s.Advice != "") {
			best = w
			r.Cause, r.Advice = s.Cause, cmp.Or(s.Advice, advice[s.Cause])
		}
	}
	r.At = e.at[r.Cause]
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
			if c := CauseOf(err); c == Certificate {
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
	bad := func(err error) (identity.ID, string, bool) {
		e.add(Step{Name: stepName, Target: target, Cause: BadTarget, Detail: err.Error()})
		return identity.ID{}, "", false
	}
	if e.Spell != nil {
		spelled, err := e.Spell(target)
		if err != nil {
			return bad(err)
		}
		target = spelled
	}
	peer, service, _ := strings.Cut(target, ":")
	name, named := strings.CutSuffix(peer, ".mesh")
	if named && !registry.ValidName(name) {
		target, named = name+":"+service, false // an ID, or an error that says what is wrong with it
	}
	if !named {
		a, err := mesh.ParseAddr(target)
		if err != nil {
			return bad(err)
		}
		e.add(Step{Name: stepName, Target: target, Detail: "it is an ID, which needs no directory"})
		return a.ID, a.Service, true
	}
	_, err := mesh.ParseAddr(e.Node.ID().String() + ":" + service)
	if a, ok := errors.AsType[*mesh.AddrError](err); ok {
		return bad(errors.New(a.Why))
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
	if c := CauseOf(why); c == DNS || c == Blocked || c == Certificate {
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
		if s.Cause = CauseOf(err); s.Cause == "" {
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
	if len(relays) < 2 && (e.Dialer == nil || e.Dialer.Split.MinPaths != 1) {
		s.Cause = NoDisjointRelay
	}
	e.add(s)
}

// dial does what the program would.
func (e *examination) dial(ctx context.Context, id identity.ID, service string) {
	d := e.Dialer
	if d == nil {
		d = &mesh.Dialer{Node: e.Node, RelayedOnly: e.RelayedOnly}
	}
	s := Step{Name: stepDial, Target: id.Short() + ":" + service, Way: cmp.Or(e.Way, stepDial)}
	failed := dialled(ctx, d, id.String()+":"+service, &s)
	if failed != nil {
		var relays []string
		if s.Cause, relays = causeOf(failed); s.Cause == "" {
			s.Cause = Unknown
		}
		e.blame(s.Cause, relays...)
		s.Detail = failed.Error()
	}
	e.add(s)
	switch {
	case e.Further == nil:
	case failed == nil, s.Cause == UnknownService, s.Cause == Unauthorized, s.Cause == BusyService:
		for _, s := range e.Further(ctx, id, service, failed) {
			e.add(s)
		}
	}
}

func dialled(ctx context.Context, d *mesh.Dialer, addr string, s *Step) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := d.Dial(ctx, addr)
	if err != nil {
		return err
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
	return nil
}
