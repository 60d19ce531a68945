package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicewal/sluice/telemetry"
)

// stage is one step of a shutdown.
type stage struct {
	name string
	// share of the whole deadline, in percent. What a stage does not use is the
	// next one's.
	share int
	stop  func(context.Context) error
	// waitsFor names what keeps the stage from ending; nil: the gates that are closing.
	waitsFor func() []string
	// flushes says that it sends off what is known of the shutdown: a span that ends
	// with it, or after it, would come too late.
	flushes bool
}

// errAbandoned is the end of a stage that does not return, although its time is over: the process goes without it.
var errAbandoned = errors.New("it does not end, and was abandoned")

// stages runs the steps of a shutdown one after the other, each within its share
// of one deadline, and says which one is late while it is.
type stages struct {
	node *node
	log  *slog.Logger
	tel  *telemetry.Telemetry
	// diagnose writes down what every goroutine does, and returns where; "" and nil: nowhere.
	diagnose func(why string) (path string, err error)
	// tell tells the service manager; nil: nobody.
	tell func(ctx context.Context, lines ...string)

	mu    sync.Mutex
	done  []telemetry.StageStats // guarded by mu; the last one is under way, until it has its time
	since time.Time              // guarded by mu; when the last one began; zero: none is under way
}

// stats returns the stages of the shutdown that began, the one under way with
// what it has taken so far.
func (s *stages) stats() []telemetry.StageStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.done)
	if !s.since.IsZero() {
		all[len(all)-1].Taken = time.Since(s.since)
	}
	return all
}

// current returns the stage that is under way; false: none is.
func (s *stages) current() (name string, since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return "", time.Time{}, false
	}
	return s.done[len(s.done)-1].Name, s.since, true
}

func (s *stages) begin(name string, limit time.Duration) {
	s.node.enter("stopping: " + name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, telemetry.StageStats{Name: name, Limit: limit})
	s.since = time.Now()
}

func (s *stages) end() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := time.Since(s.since)
	s.done[len(s.done)-1].Taken = taken
	s.since = time.Time{}
	return taken
}

// run stops everything. A stage that fails, or that is cut off at the end of its
// share, does not keep the next from its turn; all errors are returned.
func (s *stages) run(ctx context.Context, cause string, deadline time.Duration, all []stage) error {
	ctx, end := s.tel.NodeShutdown(ctx, cause)
	began := time.Now()
	var errs []error
	used := 0
	for _, st := range all {
		used += st.share
		if st.flushes {
			end(errors.Join(errs...))
		}
		limit := deadline*time.Duration(used)/100 - time.Since(began)
		if err := s.runOne(ctx, st, max(limit, 0), deadline/graceShare); err != nil {
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	end(err) // of a span that has ended nothing is changed
	s.sumUp(ctx, time.Since(began))
	return err
}

// sumUp tells in one record how long each stage took.
func (s *stages) sumUp(ctx context.Context, took time.Duration) {
	var each []slog.Attr
	for _, st := range s.stats() {
		each = append(each, slog.Duration(st.Name, st.Taken))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "shutdown ended", slog.Duration("took", took), slog.GroupAttrs("stages", each...))
}

// graceShare is the part of the whole deadline in which a stage whose time is over may say what it waited for.
const graceShare = 50

func (s *stages) runOne(ctx context.Context, st stage, limit, grace time.Duration) error {
	s.begin(st.name, limit)
	if s.tell != nil {
		s.tell(ctx, "STATUS=stopping: "+st.name)
	}
	end := func(error) {}
	if !st.flushes {
		ctx, end = s.tel.ShutdownStage(ctx, st.name, limit)
	}
	stopWatch := s.watch(ctx, st, limit)
	err := within(ctx, limit, grace, st.stop)
	stopWatch()
	taken := s.end()
	if err != nil {
		err = fmt.Errorf("stage %s: %w", st.name, err)
		s.log.LogAttrs(ctx, slog.LevelError, "shutdown stage failed", slog.String("stage", st.name), slog.Any("error", err))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "shutdown stage ended", slog.String("stage", st.name), slog.Duration("took", taken))
	end(err)
	return err
}

// within runs stop in its time. What does not listen to its context, such as a disk that hangs, is left
// behind: it ends with the process.
func within(ctx context.Context, limit, grace time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- stop(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(grace):
		return errAbandoned
	}
}

// watch names a stage each second once half of its time is over, with those that it waits for; in the log ever more seldom.
func (s *stages) watch(ctx context.Context, st stage, limit time.Duration) (stop func()) {
	quit := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		next, log := time.After(limit/2), telemetry.Seldom{}
		for first := true; ; first = false {
			select {
			case <-quit:
				return
			case <-next:
			}
			if first {
				go s.writeDown(ctx, st.name) // nobody waits for it: the disk may be what hangs
			}
			s.late(ctx, st, limit, &log)
			next = time.After(time.Second)
		}
	})
	return func() { close(quit); watching.Wait() }
}

func (s *stages) late(ctx context.Context, st stage, limit time.Duration, log *telemetry.Seldom) {
	_, since, _ := s.current()
	waitsFor := s.node.insideClosing
	if st.waitsFor != nil {
		waitsFor = st.waitsFor
	}
	names := waitsFor()
	s.tel.StageWaits(ctx, st.name, names)
	soFar := time.Since(since)
	if !log.Due(soFar, false) {
		return
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, "shutdown stage is late", slog.String("stage", st.name),
		slog.Duration("so_far", soFar), slog.Duration("limit", limit), slog.Any("waits_for", names))
}

// writeDown keeps what every goroutine does while the stage is late: after the exit nobody can ask.
func (s *stages) writeDown(ctx context.Context, name string) {
	if s.diagnose == nil {
		return
	}
	path, err := s.diagnose("stage-" + name)
	tellDiagnosed(ctx, s.tel, s.log, path, err)
}
