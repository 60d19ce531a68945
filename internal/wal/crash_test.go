package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// story is what a log lives through: a source, and perhaps another one that forks from it.
type story struct {
	parent *pgtest.Writer
	last   pg.LSN // how much of the parent arrives
	child  *pgtest.Writer
	fork   pg.LSN // zero: there is no child
	// complete is the record end of what arrives of the parent.
	complete pg.LSN
	// hurried WAL is checked and written in two steps, into segments that are only allocated.
	hurried bool
}

// life runs a story on a file system that may fail, as a timeline does: it opens, streams, recovers, and keeps a control file.
// A crash ends a life; the next one goes on from what was durable.
type life struct {
	story
	fs      *crashfs.FS
	control wal.Vouched       // durable by magic
	acked   map[pg.TLI]pg.LSN // the highest flush LSN that was, or could be, acknowledged
	records map[pg.TLI]pg.LSN // its record end
	log     *wal.Log
}

func newLife(s story, fs *crashfs.FS) *life {
	control := wal.Vouched{Position: position(1, start), Start: start, Clean: true}
	return &life{story: s, fs: fs, control: control, acked: map[pg.TLI]pg.LSN{}, records: map[pg.TLI]pg.LSN{}}
}

// tooMany is more failures in a row than one injected error explains.
const tooMany = 5

// run lives until the story is told, or the machine crashes.
func (l *life) run() error {
	for range tooMany {
		err := l.open()
		for i := 0; err == nil && i < tooMany; i++ {
			if err = l.tell(); err == nil {
				if err = l.close(); err == nil {
					return nil
				}
				break
			}
			err = l.cope(err)
		}
		if errors.Is(err, crashfs.ErrCrashed) {
			return err
		}
	}
	return errors.New("the story does not end")
}

func (l *life) open() error {
	log, err := wal.Open(dir, wal.Config{FS: l.fs, SegmentSize: seg}, l.control)
	if err != nil {
		return err
	}
	l.log, l.control.Clean = log, false
	return nil
}

func (l *life) close() error {
	if err := l.log.Close(); err != nil {
		return err
	}
	l.save()
	l.control.Clean = true
	return nil
}

// cope does what a timeline does about an error; the error that is returned is one that it cannot cope with.
func (l *life) cope(err error) error {
	for range tooMany {
		if errors.Is(err, crashfs.ErrCrashed) {
			_ = l.log.Close()
			return err
		}
		if !errors.Is(err, wal.ErrPoisoned) {
			return nil
		}
		if err = l.log.Recover(); err == nil {
			return nil
		}
		err = errors.Join(wal.ErrPoisoned, err)
	}
	return err
}

// save is a control file's save, which may lag.
func (l *life) save() { l.control = vouched(l.log) }

// tell streams what is not there yet.
func (l *life) tell() error {
	if l.log.Position().TLI == 1 {
		if err := l.stream(l.parent, l.last); err != nil {
			return err
		}
		if l.fork == 0 {
			return nil
		}
		if _, err := l.log.SwitchTLI(childHistory(l.fork), childHistoryFile(l.fork)); err != nil {
			return err
		}
		l.ack()
	}
	return l.stream(l.child, l.child.End())
}

// stream is one connection.
func (l *life) stream(w *pgtest.Writer, to pg.LSN) error {
	from := l.log.Rewind()
	if l.hurried {
		l.log.Expect(to)
	}
	for i := 1; from < to; i++ {
		next := min(to, from+250_000)
		if err := l.append(from, slice(w, from, next)); err != nil {
			return err
		}
		from = next
		if i%3 != 0 {
			continue
		}
		if _, err := l.log.Sync(); err != nil {
			return err
		}
		l.ack()
		if i%6 == 0 {
			l.save()
		}
	}
	if w == l.parent && l.fork != 0 {
		return nil // SwitchTLI syncs
	}
	_, err := l.log.Sync()
	l.ack()
	return err
}

// append takes WAL in one step, or in two: all of it is checked before the first of it is written.
func (l *life) append(lsn pg.LSN, p []byte) error {
	if !l.hurried || !l.log.Verified() {
		return l.log.Append(lsn, p)
	}
	n := min(len(p), int(seg.StartOf(lsn)+mib-lsn))
	pieces, ends := [][]byte{p[:n], p[n:]}, make([]pg.Walker, 2)
	for i, piece := range pieces {
		var err error
		if ends[i], err = l.log.Check(lsn, piece); err != nil {
			return err
		}
		lsn += pg.LSN(len(piece))
	}
	for i, piece := range pieces {
		if len(piece) == 0 {
			continue
		}
		if err := l.log.Write(piece, &ends[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) ack() {
	p := l.log.Flushed()
	l.acked[p.TLI] = max(l.acked[p.TLI], p.LSN)
	l.records[p.TLI] = max(l.records[p.TLI], l.log.RecordEnd())
}

// check opens what a crash left, and holds it against what was acknowledged.
func (l *life) check(t *testing.T) {
	t.Helper()
	if err := l.open(); err != nil {
		t.Fatalf("open: %v (control file: %+v)", err, l.control)
	}
	p := l.log.Flushed()
	if end := min(l.records[p.TLI], p.LSN); end < l.records[p.TLI] {
		t.Fatalf("%s is held, %s was acknowledged (records to %s)", p, l.acked[p.TLI], l.records[p.TLI])
	}
	w := l.parent
	if p.TLI == 2 {
		w = l.child
	} else if l.acked[2] != 0 {
		t.Fatalf("%s is held, TLI 2 was acknowledged to %s", p, l.acked[2])
	}
	if got := held(t, l.log); !bytes.Equal(got, slice(w, start, p.LSN)) {
		t.Fatalf("what is held up to %s is not what was sent", p)
	}
	l.checkDiverged(t)
	for _, name := range names(t, l.fs, dir) {
		if name != "next.tmp" && bytes.HasSuffix([]byte(name), []byte(".tmp")) {
			t.Errorf("%s is left over", name)
		}
	}
}

// checkDiverged looks for what was acknowledged on the parent, and not kept by the child.
func (l *life) checkDiverged(t *testing.T) {
	t.Helper()
	kept := l.log.Stats().Diverged
	if l.log.Position().TLI == 1 || l.complete <= l.fork {
		if len(kept) != 0 {
			t.Fatalf("diverged: %+v", kept)
		}
		return
	}
	if len(kept) != 1 || kept[0].TLI != 1 || kept[0].From != l.fork || kept[0].To < l.records[1] {
		t.Fatalf("diverged: %+v; records to %s were acknowledged", kept, l.records[1])
	}
	var got []byte
	for _, name := range names(t, l.fs, kept[0].Path) {
		got = append(got, file(t, l.fs, kept[0].Path+"/"+name)...)
	}
	from := seg.StartOf(l.fork)
	if want := slice(l.parent, from, kept[0].To); !bytes.HasPrefix(got, want) {
		t.Fatalf("what is kept aside is not what TLI 1 had from %s to %s", from, kept[0].To)
	}
}

// recordEnd returns the end of the last record below lsn.
func recordEnd(w *pgtest.Writer, lsn pg.LSN) pg.LSN {
	walker := pg.NewWalker(seg)
	walker.Reset(start, 0)
	_ = walker.Write(slice(w, start, lsn)) // valid by construction
	return walker.RecordEnd()
}

func childHistoryFile(fork pg.LSN) []byte {
	return fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", fork)
}

func childHistory(fork pg.LSN) pg.History {
	return pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork, Reason: "no recovery target specified"}}}
}

// stories are small, so that all of their operations can be tried.
func stories() map[string]story {
	fill := newSource()
	fill.Record(300_000)
	fill.Record(900_000) // over the first border
	recordsTo(fill, 20_000, start+mib+mib/2)
	fill.Switch()
	recordsTo(fill, 5_000, start+2*mib+300_000)

	all := map[string]story{
		"one TLI":             {parent: fill, last: fill.End()},
		"one TLI, in a hurry": {parent: fill, last: fill.End(), hurried: true},
	}
	fork := func(name string, at func(*pgtest.Writer), goOn func(*pgtest.Writer), last pg.LSN) {
		parent := newSource()
		at(parent)
		child := parent.Fork(2)
		s := story{parent: parent, child: child, fork: parent.End()}
		goOn(parent)
		recordsTo(child, 30_000, child.End()+100_000)
		s.last = min(last, parent.End())
		s.complete = recordEnd(parent, s.last)
		all[name] = s
	}
	const all1 = pg.LSN(1 << 60)
	middle := func(w *pgtest.Writer) { recordsTo(w, 30_000, start+mib/2) }
	border := func(w *pgtest.Writer) { middle(w); w.RecordTo(start + mib) }
	nothing := func(*pgtest.Writer) {}
	segments := func(w *pgtest.Writer) { recordsTo(w, 60_000, start+2*mib+100_000) }
	bigRecord := func(w *pgtest.Writer) { w.Record(2 * mib) }
	fork("fork at the end", middle, nothing, all1)
	fork("fork at the end, on a border", border, nothing, all1)
	fork("fork below two segments", middle, segments, all1)
	fork("fork below a segment, on a border", border, segments, all1)
	fork("fork below half a record", middle, bigRecord, start+mib/2+200_000)
	fork("fork below half a record of two segments", middle, bigRecord, start+2*mib+100_000)
	fork("fork on a border, below half a record", border, bigRecord, start+mib+200_000)
	hurried := all["fork below half a record of two segments"]
	hurried.hurried = true
	all["the same, in a hurry"] = hurried
	return all
}

// sampled is one in how many operations are tried under the race detector, which makes memory slow; without it, all are.
const sampled = 9

// tried returns those of the operations that this run tries.
func tried(all []moment) []moment {
	if !raceDetector {
		return all
	}
	var some []moment
	for i := 0; i < len(all); i += sampled {
		some = append(some, all[i])
	}
	return some
}

func eachStory(t *testing.T, f func(t *testing.T, s story)) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, s)
		})
	}
}

// moment is one operation of a life: the nth of its name on its path. A number alone would not do, because the spare segment is
// prepared at its own pace.
type moment struct {
	name, path string
	nth        int
}

// moments counts operations. Its hook calls at with each, from several goroutines.
type moments struct {
	mu   sync.Mutex
	seen map[moment]int
	at   func(moment, crashfs.Op) error
}

func (m *moments) hook(op crashfs.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := moment{name: op.Name, path: op.Path}
	m.seen[key]++
	key.nth = m.seen[key]
	return m.at(key, op)
}

func inject(fs *crashfs.FS, at func(moment, crashfs.Op) error) {
	fs.Inject((&moments{seen: map[moment]int{}, at: at}).hook)
}

// failAt fails one operation.
func failAt(fs *crashfs.FS, when moment, err error) {
	inject(fs, func(m moment, _ crashfs.Op) error {
		if m == when {
			return err
		}
		return nil
	})
}

// operations returns a life's operations, or those of them that change something.
func operations(t *testing.T, s story, all bool) []moment {
	t.Helper()
	fs := crashfs.New()
	var list []moment
	inject(fs, func(m moment, op crashfs.Op) error {
		if all || op.Mutates {
			list = append(list, m)
		}
		return nil
	})
	l := newLife(s, fs)
	if err := l.run(); err != nil {
		t.Fatal(err)
	}
	fs.Inject(nil)
	l.fs = fs.Restart(crashfs.Survivors{})
	l.check(t)
	mustClose(t, l.log)
	return list
}

// TestCrashAnywhere crashes before every operation, with nothing and with some of what was not synced surviving, or kills the
// process there; and lives on.
func TestCrashAnywhere(t *testing.T) {
	eachStory(t, func(t *testing.T, s story) {
		for i, m := range tried(operations(t, s, false)) {
			for _, kept := range []crashfs.Survivors{{}, {Killed: true}, {Seed: uint64(i + 1)}} {
				t.Run(fmt.Sprintf("%+v/%+v", m, kept), func(t *testing.T) {
					fs := crashfs.New()
					failAt(fs, m, crashfs.ErrCrashed)
					l := newLife(s, fs)
					err := l.run()
					if _, crash := fs.Stat("/"); !errors.Is(crash, crashfs.ErrCrashed) {
						t.Fatalf("no crash: %v", err)
					}
					goOn(t, l, kept)
				})
			}
		}
	})
}

// goOn checks what a crash left, tells the story to its end, and checks that.
func goOn(t *testing.T, l *life, kept crashfs.Survivors) {
	t.Helper()
	l.fs = l.fs.Restart(kept)
	l.check(t)
	l.save() // what an open log says is as durable as what a sync says
	l.ack()
	mustClose(t, l.log)
	l.fs = l.fs.Restart(crashfs.Survivors{})
	l.check(t)
	mustClose(t, l.log)
	if err := l.run(); err != nil {
		t.Fatalf("the next life: %v", err)
	}
	if open := l.fs.OpenFiles(); open != 0 {
		t.Errorf("%d files are open", open)
	}
	l.fs = l.fs.Restart(crashfs.Survivors{})
	l.check(t)
	want := l.parent.Bytes()
	if l.fork != 0 {
		want = l.child.Bytes()
	}
	if got := held(t, l.log); !bytes.Equal(got, want) {
		t.Errorf("the story ends at %s", l.log.Flushed())
	}
	mustClose(t, l.log)
}

// TestErrorAnywhere fails every operation once, and lives on: no error loses anything, or needs a restart.
func TestErrorAnywhere(t *testing.T) {
	eachStory(t, func(t *testing.T, s story) {
		for i, m := range tried(operations(t, s, true)) {
			t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
				fs := crashfs.New()
				if i%2 == 0 {
					fs.DropLostPages()
				}
				failAt(fs, m, syscall.EIO)
				l := newLife(s, fs)
				if err := l.run(); err != nil {
					t.Fatal(err)
				}
				fs.Inject(nil)
				goOn(t, l, crashfs.Survivors{})
			})
		}
	})
}

// TestCrashAfterError fails one operation and crashes some operations later.
func TestCrashAfterError(t *testing.T) {
	eachStory(t, func(t *testing.T, s story) {
		for i, m := range tried(operations(t, s, false)) {
			t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
				fs := crashfs.New()
				left := -1 // operations until the crash
				inject(fs, func(now moment, op crashfs.Op) error {
					if left--; left == 0 {
						return crashfs.ErrCrashed
					}
					if now != m {
						return nil
					}
					left = 1 + i*7%23
					return syscall.ENOSPC
				})
				l := newLife(s, fs)
				if err := l.run(); err != nil && !errors.Is(err, crashfs.ErrCrashed) {
					t.Fatal(err)
				}
				fs.Inject(nil)
				goOn(t, l, crashfs.Survivors{Seed: uint64(i + 1)})
			})
		}
	})
}
