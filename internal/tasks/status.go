package tasks

import (
	"cmp"
	"slices"
	"time"
)

// Status is what is known of one task.
type Status struct {
	Name    Name
	Running bool
	// Stopping says that the running task was told to stop.
	Stopping bool
	// Progressed says that the running task has made progress.
	Progressed bool
	// Since is when it was started or, if it does not run, when it ended.
	Since time.Time
	// Generation is that of the run that runs, or of the last one.
	Generation uint64
	// FruitlessRuns is how many runs in a row have ended without progress and
	// without having been stopped, by an error, by a panic or just so. A run that
	// failed after progress is the first of a new row.
	FruitlessRuns int
	// LastStart is when the last run, or the present one, began.
	LastStart time.Time
	// Starts counts the runs; Restarts those of them that followed a failure.
	Starts, Restarts uint64
	// LastEnd and LastOutcome tell of the last end; zero before the first.
	LastEnd     time.Time
	LastOutcome Outcome
	// LastErr is the error of the last run that failed or panicked; nil if none has.
	LastErr error
}

// record is what a group keeps of one task, over its runs.
type record struct {
	run      *run // nil while it does not run
	stopping bool
	status   Status // of the runs that have ended
}

// admit makes r the running run of its task.
func (g *Group) admit(r *run) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	rec, ok := g.records[r.Name]
	if !ok {
		rec = &record{status: Status{Name: r.Name}}
		g.records[r.Name] = rec
	}
	if rec.run != nil {
		return ErrRunning
	}
	rec.run, rec.stopping = r, false
	r.attempt = rec.status.FruitlessRuns + 1
	rec.status.Starts++
	rec.status.LastStart = r.started
	if rec.status.LastOutcome.Bad() {
		rec.status.Restarts++
	}
	return nil
}

// retire files the end of r.
func (g *Group) retire(r *run, e End) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rec := g.records[r.Name]
	rec.run, rec.stopping = nil, false
	s := &rec.status
	s.FruitlessRuns = fruitless(s.FruitlessRuns, e.Outcome, r.progressed.Load())
	s.Generation = r.Generation
	s.LastEnd, s.LastOutcome = r.started.Add(e.Ran), e.Outcome
	if e.Outcome.Bad() {
		s.LastErr = e.Err
	}
}

// fruitless counts on from the row of fruitless runs before.
func fruitless(before int, o Outcome, progressed bool) int {
	switch {
	case o == Cancelled, o == Done && progressed:
		return 0
	case progressed:
		return 1
	}
	return before + 1
}

// Status lists the tasks that were ever started, by name.
func (g *Group) Status() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Status, 0, len(g.records))
	for _, rec := range g.records {
		list = append(list, rec.now())
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// now is the status with the present run in it.
func (rec *record) now() Status {
	s := rec.status
	s.Since = s.LastEnd
	if rec.run == nil {
		return s
	}
	s.Running, s.Stopping = true, rec.stopping
	s.Since, s.Generation = rec.run.started, rec.run.Generation
	if rec.run.progressed.Load() {
		s.Progressed, s.FruitlessRuns = true, 0
	}
	return s
}
