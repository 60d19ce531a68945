package observe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// record remembers every alert that fired, and what explains it.
type record struct {
	watch   *watchers
	excused func(alert, time.Time) bool // of an alert that fires now
	stop    context.CancelFunc
	done    chan struct{}
	mu      sync.Mutex
	now     []alert              // fire; guarded by mu
	seen    map[string]alert     // ever fired, by its labels; guarded by mu
	allowed []map[string]string  // labels that alerts of faults have; guarded by mu
	excuses map[string]bool      // those that were told, by the alert's labels; guarded by mu
	news    chan struct{}        // closed at the next look; guarded by mu
	failed  error                // the last look's; guarded by mu
	said    func(string, ...any) // is told of what nothing explains
}

// startRecord looks at Prometheus every second until the record is stopped. An alert that is excused has not fired, as long as it is.
func startRecord(ctx context.Context, watch *watchers, excused func(alert, time.Time) bool, say func(string, ...any)) *record {
	ctx, cancel := context.WithCancel(ctx)
	r := &record{
		watch: watch, excused: excused, stop: cancel, done: make(chan struct{}),
		seen: map[string]alert{}, excuses: map[string]bool{}, news: make(chan struct{}), said: say,
	}
	go func() {
		defer close(r.done)
		for ctx.Err() == nil {
			r.look(ctx)
			pause(ctx, time.Second)
		}
	}()
	return r
}

func (r *record) end() {
	r.stop()
	<-r.done
}

func (r *record) look(ctx context.Context) {
	firing, err := r.watch.prometheus.firing(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = err
	if err != nil {
		return
	}
	r.now = firing
	for _, a := range firing {
		r.seeLocked(a)
	}
	close(r.news)
	r.news = make(chan struct{})
}

func (r *record) seeLocked(a alert) {
	name := labels(a)
	if r.excused(a, time.Now()) {
		if !r.excuses[name] {
			r.excuses[name] = true
			r.said("   the disk of this machine is slow, whoever asks it, which explains: %s", a)
		}
		return
	}
	if _, known := r.seen[name]; known {
		return
	}
	r.seen[name] = a
	if !r.explainedLocked(a) {
		r.said("   nothing explains: %s %v", a, a.Labels)
	}
}

// labels is an alert's name for the record; printing a map sorts it.
func labels(a alert) string { return fmt.Sprint(a.Labels) }

// explain allows alerts with such labels from now on.
func (r *record) explain(labels ...map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.allowed = append(r.allowed, labels...)
}

func (r *record) explainedLocked(a alert) bool {
	return slices.ContainsFunc(r.allowed, a.has)
}

// unexplained returns the alerts that fired without a fault.
func (r *record) unexplained() (all []alert) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.seen {
		if !r.explainedLocked(a) {
			all = append(all, a)
		}
	}
	return all
}

// await waits until an alert with such labels fires, or none does any more.
func (r *record) await(ctx context.Context, labels map[string]string, fires bool, atMost time.Duration) (a alert, took time.Duration, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.now, matches(labels))
		if i >= 0 {
			a = r.now[i]
		}
		news, failed := r.news, r.failed
		r.mu.Unlock()
		if (i >= 0) == fires {
			return a, time.Since(began), nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return a, 0, fmt.Errorf("after %v, firing is %v, want %v: %v (last look: %w)", time.Since(began).Round(time.Second), !fires, fires, labels, errOr(failed, context.Cause(ctx)))
		}
	}
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
