package dns

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of Keep.
const (
	lookEvery = 2 * time.Second
	maxTaken  = 5 // in a minute: who writes more often than that is not to be fought
)

// ErrEdited is what Keep tells when another program has changed some of what this process wrote, and left the rest.
var ErrEdited = errors.New("another program has edited the file that this meshvpn wrote: that is dropped, since only a file written anew is taken over")

// Keep has the system go on asking the servers, as Take has it, until ctx ends, and then puts the file back. When another
// program has written it, as a DHCP client does, what that wrote is what is put back, and its servers are the upstreams;
// changed is told of them, or of why the system does not ask us any more. So it is when the file was a link, and what it
// led to is written.
func (s *System) Keep(ctx context.Context, device string, servers []netip.Addr, changed func(upstreams []netip.AddrPort, err error)) error {
	look := time.NewTicker(cmp.Or(s.every, lookEvery))
	defer look.Stop()
	var taken []time.Time
	var before *view // what differed at the last look; a file that is being written differs from look to look
	for {
		select {
		case <-ctx.Done():
			return s.Restore()
		case <-look.C:
		}
		v := s.look()
		if !s.differs(v) {
			before = nil
			continue
		}
		if before == nil || !before.equal(v) {
			before = v
			continue
		}
		before = nil
		now := time.Now()
		taken = slices.DeleteFunc(taken, func(t time.Time) bool { return now.Sub(t) > time.Minute })
		var given error
		switch {
		case s.lost():
			given = s.errLost()
		case len(taken) == maxTaken:
			given = fmt.Errorf("another program writes %s again and again: it stays as that has it", s.File)
		}
		if given != nil {
			changed(nil, given)
			<-ctx.Done()
			return s.Restore()
		}
		taken = append(taken, now)
		edited := !bytes.Equal(v.file, s.left.file) && isOurs(v.file)
		upstreams, err := s.Take(ctx, device, servers)
		if err == nil && edited {
			err = ErrEdited
		}
		changed(upstreams, err)
	}
}

// A view is what stands in the file, and in those by which we learn whom to ask instead of it.
type view struct {
	file, linked, uplinks []byte
	err                   error // of reading the file, but for its not being there
}

func (v *view) equal(w *view) bool {
	return bytes.Equal(v.file, w.file) && bytes.Equal(v.linked, w.linked) && bytes.Equal(v.uplinks, w.uplinks)
}

func (s *System) look() *view {
	v := new(view)
	if v.file, v.err = readFile(s.place()); errors.Is(v.err, fs.ErrNotExist) {
		v.err = nil
	}
	if s.link != "" { // else it is the file, or nobody asks by it
		v.linked, _ = readFile(s.link)
		v.uplinks, _ = readFile(s.Uplinks)
	}
	return v
}

// differs is whether another has written since what was last seen. systemd-resolved may, as long as it is asked. What
// another meshvpn left differs when that has ended.
func (s *System) differs(v *view) bool {
	switch {
	case v.err != nil:
		return false
	case v.equal(&s.left):
		return writerOf(v.file) != "" && !isOurs(v.file) && owner(v.file) == 0
	case s.told && slices.ContainsFunc(nameservers(v.file), isStub):
		s.left = *v
		return false
	}
	return true
}

// place is where the file is: what /etc/resolv.conf leads to if something is mounted there, as ip netns exec does. The
// link is not to be replaced then, since it is the whole machine's.
func (s *System) place() string {
	to, err := filepath.EvalSymlinks(s.File)
	if err != nil || to == s.File {
		return s.File
	}
	if mounted, err := isMounted(to); err == nil && mounted {
		return to
	}
	return s.File
}

// lost is whether the file that was changed is not at its place any more: it was mounted there, and the kernel ends a
// mount when the file below is replaced. What is there now is another's, maybe of the whole machine.
func (s *System) lost() bool {
	if s.mount == "" {
		return false
	}
	mounted, err := isMounted(s.mount)
	return err == nil && !mounted
}

func (s *System) errLost() error {
	return fmt.Errorf("the file mounted at %s is mounted there no more, since another program has replaced the one below, and was not put back", s.mount)
}

// isMounted is whether a file is mounted at a path.
func isMounted(path string) (bool, error) {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // there are no such mounts
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return true, nil
		}
	}
	return false, err
}
