package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
}

// stages runs the steps of a shutdown one after the other, each within its share
// of one deadline, and says which one is late while it is.
type stages struct {
	node *node
	log  *slog.Logger
	tel  *telemetry.Telemetry

	mu   sync.Mutex
	done []telemetry.StageStats // guarded by mu; the last one is under way, until it has its time
	now  time.Time              // guarded by mu; when the last one began; zero: none is under way
}

// stats returns the stages of the shutdown that began, the one under way with
// what it has taken so far.
func (s *stages) stats() []telemetry.StageStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append([]telemetry.StageStats(nil), s.done...)
	if !s.now.IsZero() {
		all[len(all)-1].Taken = time.Since(s.now)
	}
	return all
}

func (s *stages) begin(name string, limit time.Duration) {
	s.node.enter("stopping: " + name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, telemetry.StageStats{Name: name, Limit: limit})
	s.now = time.Now()
}

func (s *stages) end() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := time.Since(s.now)
	s.done[len(s.done)-1].Taken = taken
	s.now = time.Time{}
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
		limit := deadline*time.Duration(used)/100 - time.Since(began)
		if err := s.runOne(ctx, st, max(limit, 0)); err != nil {
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	end(err)
	return err
}

func (s *stages) runOne(ctx context.Context, st stage, limit time.Duration) error {
	s.begin(st.name, limit)
	ctx, end := s.tel.ShutdownStage(ctx, st.name, limit)
	stopWatch := s.watch(ctx, st.name, limit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := st.stop(ctx)
	cancel()
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

// watch names a stage each second once half of its time is over.
func (s *stages) watch(ctx context.Context, name string, limit time.Duration) (stop func()) {
	quit := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		next := time.After(limit / 2)
		for {
			select {
			case <-quit:
				return
			case <-next:
			}
			s.tel.StageWaits(ctx, name)
			s.log.LogAttrs(ctx, slog.LevelWarn, "shutdown stage is late", slog.String("stage", name), slog.Duration("limit", limit))
			next = time.After(time.Second)
		}
	})
	return func() { close(quit); watching.Wait() }
}
