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
	"slices"
	"strings"
	"time"
)

// Bounds of Keep.
const (
	lookEvery = 2 * time.Second
	maxTaken  = 5 // in a minute: who writes more often than that is not to be fought
)

// Keep has the system go on asking the servers, as Take has it, until ctx ends, and then puts the file back. When another
// program has written it, as a DHCP client does, what that wrote is what is put back, and its servers are the upstreams;
// changed is told of them, or of why the system does not ask us any more.
func (s *System) Keep(ctx context.Context, device string, servers []netip.Addr, changed func(upstreams []netip.AddrPort, err error)) error {
	look := time.NewTicker(cmp.Or(s.every, lookEvery))
	defer look.Stop()
	var taken []time.Time
	for {
		select {
		case <-ctx.Done():
			return s.Restore()
		case <-look.C:
		}
		if !s.differs() {
			continue
		}
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
		changed(s.Take(ctx, device, servers))
	}
}

// differs is whether another has written the file since it was last seen. systemd-resolved may, as long as it is asked.
func (s *System) differs() bool {
	now, err := readFile(s.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || bytes.Equal(now, s.left) {
		return false
	}
	if s.told && slices.ContainsFunc(nameservers(now), isStub) {
		s.left = now
		return false
	}
	return true
}

// lost is whether the file that was changed is not at its place any more: it was mounted there, and the kernel ends a
// mount when the file below is replaced. What is there now is another's, maybe of the whole machine.
func (s *System) lost() bool { return s.mounted && !isMounted(s.File) }

func (s *System) errLost() error {
	return fmt.Errorf("the file mounted at %s is mounted there no more, since another program has replaced the one below, and was not put back", s.File)
}

// isMounted is whether a file is mounted at a path.
func isMounted(path string) bool {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false // there are no such mounts
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return true
		}
	}
	return false
}
