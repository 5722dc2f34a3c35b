package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"time"
)

// A meter counts what this process, and the rest of the machine, spend while
// something is measured.
type meter struct {
	own      time.Duration // CPU time of the process
	busy     time.Duration // of the machine; 0 where it can't be known
	syscalls float64       // that write, but for those that send a message
	mem      runtime.MemStats
	at       time.Time
	profile  *os.File
}

// begin starts a meter, and the profile that the plan asks for.
func begin(p plan) (*meter, error) {
	m := new(meter)
	runtime.GC()
	if p.profile != "" {
		var err error
		if m.profile, err = os.Create(p.profile); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(m.profile); err != nil {
			return nil, err
		}
	}
	m.read()
	return m, nil
}

func (m *meter) read() {
	runtime.ReadMemStats(&m.mem)
	m.at = time.Now()
	m.own, m.busy, m.syscalls = ownTime(), machineTime(), writeCalls()
}

// other is the figure that says which part of the machine others used. It is
// not shown, but decides whether the sample counts.
const other = "others"

// end returns what was spent since begin; took and n are how long it took to
// move how many bytes, n = 0 when that is not what was done.
func (m *meter) end(took time.Duration, n int64) figures {
	var now meter
	now.read()
	if m.profile != nil {
		pprof.StopCPUProfile()
		m.profile.Close()
	}
	f := figures{"seconds": took.Seconds(), "CPU s": (now.own - m.own).Seconds()}
	if m.busy > 0 {
		whole := now.at.Sub(m.at) * time.Duration(runtime.NumCPU())
		f[other] = max(0, float64(now.busy-m.busy-(now.own-m.own))/float64(whole))
	}
	if n == 0 {
		return f
	}
	mb, mib := float64(n)/1e6, float64(n)/(1<<20)
	f["bytes"] = float64(n)
	f[rate] = mb / took.Seconds()
	f[cpuPerGB] = (now.own - m.own).Seconds() / (mb / 1e3)
	f[allocsMiB] = float64(now.mem.Mallocs-m.mem.Mallocs) / mib
	f[allocated] = float64(now.mem.TotalAlloc-m.mem.TotalAlloc) / 1024 / mib
	if now.syscalls > 0 {
		f[writesMB] = (now.syscalls - m.syscalls) / mb
	}
	return f
}
