package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is what /proc counts CPU time in: USER_HZ, 100 on every Linux that
// Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a process has used.
type usage struct {
	cpu      time.Duration
	rss      int64 // bytes, the peak
	switches int64 // of the context, of all threads that live
}

// since is what was used after a moment.
func (u usage) since(before usage) usage {
	return usage{cpu: u.cpu - before.cpu, switches: u.switches - before.switches, rss: u.rss}
}

// plus adds what another process has used.
func (u usage) plus(other usage) usage {
	return usage{cpu: u.cpu + other.cpu, switches: u.switches + other.switches, rss: u.rss + other.rss}
}

// usageOf reads what a process has used so far.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(after))
	for _, f := range fields[11:13] { // utime and stime, see proc(5)
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	kib, err := statusField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
	if err != nil {
		return u, err
	}
	u.rss = kib << 10
	u.switches, err = switchesOf(pid)
	return u, err
}

func switchesOf(pid int) (sum int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range threads {
		for _, field := range []string{"\nvoluntary_ctxt_switches:", "\nnonvoluntary_ctxt_switches:"} {
			n, err := statusField(file, field)
			if os.IsNotExist(err) {
				continue // the thread has ended
			}
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// resident reads how much memory a process has now, in bytes.
func resident(pid int) (int64, error) {
	kib, err := statusField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	return kib << 10, err
}

func statusField(file, field string) (n int64, err error) {
	status, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(status, []byte(field))
	if _, err := fmt.Sscanf(string(after), "%d", &n); err != nil {
		return 0, fmt.Errorf("%s of %s: %w", field, file, err)
	}
	return n, nil
}

// usageAfter is what a process that has ended had used.
func usageAfter(p *os.ProcessState) usage {
	u := usage{cpu: p.UserTime() + p.SystemTime()}
	if r, ok := p.SysUsage().(*syscall.Rusage); ok {
		u.rss, u.switches = r.Maxrss<<10, r.Nvcsw+r.Nivcsw
	}
	return u
}
