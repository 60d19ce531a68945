package bench

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// fetched is one fetch. Its parts are known where a proxy saw the requests.
type fetched struct {
	total    time.Duration
	cpu      time.Duration // of all its processes
	begin    time.Duration // until the first request
	survey   time.Duration // from there until the segment was asked for
	object   time.Duration // from there until the process had ended
	requests int
}

// restored is what one way took, in all rounds.
type restored struct {
	way
	files      []fetched
	recoveries []time.Duration
}

// TestCompareRestore fetches the same segments in each way, one after the other,
// and lets a server recover by it.
func TestCompareRestore(t *testing.T) {
	asked(t, "restore")
	for _, kv := range rig.S3Env() { // of the nodes, of wal-fetch, and of the servers' restore_command
		key, value, _ := strings.Cut(kv, "=")
		t.Setenv(key, value)
	}
	l, ways := newLibrary(t)
	all := make([]restored, len(ways))
	for i, w := range ways {
		all[i].way = w
	}
	for round := range *rounds {
		for i := range all {
			r := &all[(i+round)%len(all)]
			r.files = append(r.files, l.fetchAll(r.way)...)
			if r.recover != "" {
				r.recoveries = append(r.recoveries, l.recovery(r.recover))
			}
		}
	}
	t.Logf("fetching %d segments of %d MiB, one after the other, and a whole recovery of %d, %d rounds\n%s",
		len(l.segments), *segMiB, l.archived(), *rounds, restores(all))
}

// archived is how many segments a recovery may read.
func (l *library) archived() int {
	l.t.Helper()
	files, err := os.ReadDir(l.archive)
	must(l.t, err)
	return len(files)
}

func (l *library) fetchAll(w way) (all []fetched) {
	l.t.Helper()
	dir := rig.TempDir(l.t)
	defer func() { must(l.t, os.RemoveAll(dir)) }()
	for _, name := range l.segments {
		path := filepath.Join(dir, name)
		if w.absent != "" {
			name = w.absent
		}
		all = append(all, l.fetch(w, name, path))
	}
	return all
}

func (l *library) fetch(w way, name, path string) fetched {
	l.t.Helper()
	seen := requests{segment: name}
	if w.proxy != nil {
		w.proxy.Fail(seen.note)
		defer w.proxy.Fail(nil)
	}
	began := time.Now()
	used := l.run(w.fetch(name, path), w.code)
	f := fetched{total: time.Since(began), cpu: used.cpu}
	if w.proxy != nil {
		w.proxy.Fail(nil) // and nobody writes what was seen any more
		f.begin, f.survey, f.requests = seen.first.Sub(began), seen.object.Sub(seen.first), seen.n
		f.object = f.total - f.begin - f.survey
	}
	return f
}

// requests are those of one fetch.
type requests struct {
	segment       string
	first, object time.Time // object: the last time that the segment was asked for
	n             int
}

// note is called by the proxy for one request at a time. It lets all through.
func (s *requests) note(r *http.Request) rig.S3Fault {
	now := time.Now()
	if s.n == 0 {
		s.first = now
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, s.segment) {
		s.object = now
	}
	s.n++
	return rig.NoFault
}

// recovery is how long a server takes from its start until it was promoted.
func (l *library) recovery(command string) time.Duration {
	l.t.Helper()
	dir := filepath.Join(rig.TempDir(l.t), "restored")
	must(l.t, rig.CopyTree(l.ctx, l.backup, dir))
	must(l.t, pgserver.PrepareRestore(dir, command, nil))
	began := time.Now()
	s, err := pgserver.StartExisting(l.ctx, pgserver.Options{Dir: dir})
	must(l.t, err)
	defer func() { must(l.t, s.Kill()); must(l.t, s.RemoveAll()) }()
	must(l.t, s.WaitPromoted(l.ctx))
	took := time.Since(began)
	if got, want := l.sql(s, "SELECT count(*) FROM filler"), l.sql(l.primary, "SELECT count(*) FROM filler"); got != want {
		l.t.Fatalf("recovered %s rows of %s by %s", got, want, command)
	}
	return took
}

// restores prints a table.
func restores(all []restored) string {
	total := func(f fetched) time.Duration { return f.total }
	cpu := func(f fetched) time.Duration { return f.cpu }
	var b strings.Builder
	b.WriteString("\n| way | ms a file, median | p99 | CPU ms | until the first request | identity and survey | the segment | requests | recovery, s |\n")
	b.WriteString("|---|" + strings.Repeat("--:|", 8) + "\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.name, r.ms(0.5, total), r.ms(0.99, total), r.ms(0.5, cpu), r.parts(), spreadOf(r.recoveries))
	}
	return b.String()
}

// parts are four columns, which are empty where nobody saw the requests.
func (r restored) parts() string {
	if r.proxy == nil {
		return " | | | "
	}
	return fmt.Sprintf("%s | %s | %s | %d",
		r.ms(0.5, func(f fetched) time.Duration { return f.begin }),
		r.ms(0.5, func(f fetched) time.Duration { return f.survey }),
		r.ms(0.5, func(f fetched) time.Duration { return f.object }),
		r.files[0].requests)
}

// ms is a quantile, in milliseconds.
func (r restored) ms(q float64, of func(fetched) time.Duration) string {
	v := make([]time.Duration, len(r.files))
	for i, f := range r.files {
		v[i] = of(f)
	}
	slices.Sort(v)
	return fmt.Sprintf("%.1f", v[int(q*float64(len(v)-1))].Seconds()*1e3)
}

// spreadOf is that of recoveries, in seconds, or nothing where there were none.
func spreadOf(took []time.Duration) string {
	if len(took) == 0 {
		return ""
	}
	v := make([]float64, len(took))
	for i, d := range took {
		v[i] = d.Seconds()
	}
	return between(v, "%.1f")
}
