package timeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// life is a timeline from its creation to its deletion, on a file system that may fail: it adopts a source, follows it to a
// child, seals, hands out the tail, is shut down, opened and sealed again, and removed. A crash ends a life; the next one goes
// on from what was durable, and has to keep what the one before has said.
type life struct {
	fs     *crashfs.FS
	tl     *timeline.Timeline
	parent *pgtest.Writer
	child  *pgtest.Writer
	fork   pg.LSN

	said      said
	receiving bool // so no mark of a clean close may be durable
	removing  bool // from here on all of it may be gone
}

// said is what somebody was told.
type said struct {
	incarnation timeline.Incarnation
	source      string
	adopted     bool
	required    map[pg.TLI]int    // by quorum
	records     map[pg.TLI]pg.LSN // the record end that could be acknowledged
	seal        timeline.Seal     // zero: none
	tailServed  bool
	deleting    bool
}

// What every life receives, made once and only read: a parent, and a child that leaves it at the fork.
var lifeParent, lifeChild, lifeFork = lifeSources()

func lifeSources() (parent, child *pgtest.Writer, fork pg.LSN) {
	parent = newSource()
	recordsTo(parent, 20_000, start+120_000)
	child, fork = parent.Fork(2), parent.End()
	recordsTo(parent, 20_000, parent.End()+80_000) // diverges
	recordsTo(child, 20_000, child.End()+80_000)
	return parent, child, fork
}

func newLife() *life {
	return &life{
		parent: lifeParent, child: lifeChild, fork: lifeFork, fs: crashfs.New(),
		said: said{required: map[pg.TLI]int{}, records: map[pg.TLI]pg.LSN{}},
	}
}

// patience is more failures in a row than one injected error explains.
const patience = 4

// run lives to the end, or to the crash. What fails is tried again, as the node does.
func (l *life) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		l.open, l.setSource, l.receiveParent, l.receiveChild, l.sealAndServe, l.close,
		l.open, l.sealAndServe, l.markDeleting, l.close, l.remove,
	} {
		var err error
		for range patience {
			if err = step(ctx); err == nil || errors.Is(err, crashfs.ErrCrashed) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open makes or opens the timeline, and removes what a crash has left half made, as the keeper does.
func (l *life) open(ctx context.Context) error {
	if err := l.fs.MkdirAll(timelinesDir); err != nil {
		return err
	}
	infos, err := l.fs.ReadDir(timelinesDir)
	if err != nil {
		return err
	}
	there := false
	for _, i := range infos {
		if strings.HasPrefix(i.Name(), timeline.TempPrefix) {
			if err := l.fs.RemoveAll(timelinesDir + "/" + i.Name()); err != nil {
				return err
			}
		}
		there = there || i.Name() == "main"
	}
	if there {
		l.tl, err = timeline.Open(ctx, config(l.fs), id)
	} else {
		l.tl, err = timeline.Create(ctx, config(l.fs), id, timeline.Creation{})
	}
	if err != nil {
		return err
	}
	if s, why := l.tl.State(); s == timeline.StateBroken {
		return errors.Join(why, l.tl.Shutdown(ctx, errStop))
	}
	l.said.incarnation = l.tl.Control().Incarnation
	return nil
}

func (l *life) setSource(ctx context.Context) error {
	if err := l.tl.SetSource(ctx, "host=a", false); err != nil {
		return err
	}
	l.said.source = "host=a"
	return nil
}

// receive is one session: it reads the quorum, streams, and acknowledges.
func (l *life) receive(ctx context.Context, w *pgtest.Writer, names string) error {
	end, err := l.tl.BeginReceive()
	if err != nil {
		return err
	}
	defer end()
	if err := l.tl.PrepareReceive(ctx); err != nil {
		return err
	}
	l.receiving = true
	if l.tl.Held().SystemID == 0 {
		if err := l.tl.Adopt(ctx, adoption(w.End())); err != nil {
			return err
		}
		l.said.adopted = true
	}
	if err := l.followChild(ctx, w); err != nil {
		return err
	}
	if err := l.tl.SetQuorum(ctx, reading(l.tl, names)); err != nil {
		return err
	}
	q := l.tl.Quorum()
	l.said.required[q.TLI] = max(l.said.required[q.TLI], q.Required)
	defer l.acknowledge()
	if err := stream(l.tl, w, w.End()); err != nil {
		return err
	}
	return l.tl.SaveControl(ctx)
}

// followChild goes over to TLI 2, if that is what comes.
func (l *life) followChild(ctx context.Context, w *pgtest.Writer) error {
	if w != l.child || l.tl.Held().Position.TLI == 2 {
		return nil
	}
	h, raw := history(2, l.fork)
	return l.tl.Follow(ctx, h, raw)
}

// acknowledge tells the source how far all is durable.
func (l *life) acknowledge() {
	tli, end := l.tl.Log().Flushed().TLI, l.tl.Log().RecordEnd()
	l.said.records[tli] = max(l.said.records[tli], end)
}

func (l *life) receiveParent(ctx context.Context) error {
	if l.tl.Held().Position.TLI > 1 {
		return nil
	}
	return l.receive(ctx, l.parent, "ANY 1 (a, b)")
}

func (l *life) receiveChild(ctx context.Context) error {
	if l.tl.Held().Seal != nil {
		return nil
	}
	return l.receive(ctx, l.child, "a")
}

func (l *life) sealAndServe(ctx context.Context) error {
	res, err := l.tl.Seal(ctx, false)
	if err != nil {
		return err
	}
	if was := l.said.seal; was != (timeline.Seal{}) && (was.End != res.End || was.TLI != res.TLI || !was.At.Equal(res.At)) {
		return fmt.Errorf("sealed as %+v, before as %+v", res.Seal, was)
	}
	l.said.seal = res.Seal
	if err := l.tl.MarkTailServed(ctx, res.Seal); err != nil {
		return err
	}
	l.said.tailServed = true
	return nil
}

func (l *life) markDeleting(ctx context.Context) error {
	if err := l.tl.MarkDeleting(ctx, false); err != nil {
		return err
	}
	l.said.deleting = true
	return nil
}

func (l *life) close(ctx context.Context) error {
	l.receiving = false
	return l.tl.Shutdown(ctx, errStop)
}

func (l *life) remove(context.Context) error {
	l.removing = true
	return l.tl.RemoveFiles()
}

// check holds what is on disk against what was said, and opens it.
func (l *life) check(t *testing.T) {
	t.Helper()
	c, err := timeline.LoadControl(l.fs, dir)
	if l.removing && err != nil {
		return
	}
	if l.said.incarnation == "" && err != nil {
		return
	}
	must(t, err)
	if l.said.incarnation != "" && c.Incarnation != l.said.incarnation {
		t.Errorf("incarnation %s, was %s", c.Incarnation, l.said.incarnation)
	}
	if c.Source != l.said.source && l.said.source != "" || l.said.adopted && c.SystemID != systemID || l.said.deleting && !c.Deleting {
		t.Errorf("%+v was said, durable is %+v", l.said, c)
	}
	for tli, required := range l.said.required {
		if q := c.QuorumOf(tli); q.Required < required {
			t.Errorf("TLI %s: %+v, %d were required", tli, q, required)
		}
	}
	if l.receiving && c.Clean {
		t.Error("the close is said to have been clean, and something was being received")
	}
	l.checkSeal(t, c)
	l.checkLog(t)
}

func (l *life) checkSeal(t *testing.T, c timeline.Control) {
	t.Helper()
	want := l.said.seal
	got, sealed := c.SealOf(2)
	if want != (timeline.Seal{}) && (got.End != want.End || !got.At.Equal(want.At)) {
		t.Errorf("sealed as %+v, durable is %+v", want, got)
	}
	if l.said.tailServed && !got.TailServed {
		t.Error("that the tail was served is forgotten")
	}
	if sealed && got.End != l.child.End() || len(c.Seals) > 1 {
		t.Errorf("sealed: %+v", c.Seals)
	}
}

// checkLog opens the timeline; what is there has to be the source's, and all that was acknowledged.
func (l *life) checkLog(t *testing.T) {
	t.Helper()
	tl, err := timeline.Open(t.Context(), config(l.fs), id)
	must(t, err)
	if s, why := tl.State(); s != timeline.StateRunning {
		t.Fatalf("opened as %s: %v", s, why)
	}
	defer func() { must(t, tl.Shutdown(t.Context(), errStop)) }()
	if tl.Log() == nil {
		return
	}
	p, end := tl.Log().Flushed(), tl.Log().RecordEnd()
	if end < l.said.records[p.TLI] || p.TLI == 1 && l.said.records[2] != 0 {
		t.Errorf("durable is %s with records to %s, acknowledged was %v", p, end, l.said.records)
	}
	w := map[pg.TLI]*pgtest.Writer{1: l.parent, 2: l.child}[p.TLI]
	if !bytes.Equal(held(t, tl), slice(w, start, p.LSN)) {
		t.Errorf("what is held up to %s is not what was sent", p)
	}
	if d := tl.Log().Stats().Diverged; p.TLI == 2 && l.said.records[1] > l.fork && (len(d) != 1 || d[0].To < l.said.records[1]) {
		t.Errorf("diverged: %+v", d)
	}
}

// operations returns the numbers of the operations in a life without failures: all, or those that change something.
func operations(t *testing.T, all bool) (numbers []int) {
	t.Helper()
	l := newLife()
	l.fs.Inject(func(op crashfs.Op) error {
		if all || op.Mutates {
			numbers = append(numbers, op.N)
		}
		return nil
	})
	must(t, l.run(t.Context()))
	l.fs.Inject(nil)
	if left := names(t, l.fs, timelinesDir); len(left) != 0 {
		t.Fatalf("%q are left", left)
	}
	return numbers
}

// TestCrashAnywhere crashes before every operation, with nothing, all, and some of what was not synced surviving; checks; and
// lives on to the end.
func TestCrashAnywhere(t *testing.T) {
	for _, n := range operations(t, false) {
		for _, kept := range []crashfs.Survivors{{}, {Killed: true}, {Seed: uint64(n)}} {
			t.Run(fmt.Sprintf("%d/%+v", n, kept), func(t *testing.T) {
				t.Parallel()
				l := newLife()
				l.fs.Inject(crashfs.FailNth(n, crashfs.ErrCrashed))
				if err := l.run(t.Context()); !errors.Is(err, crashfs.ErrCrashed) {
					t.Fatalf("no crash: %v", err)
				}
				l.fs = l.fs.Restart(kept)
				l.check(t)
				goOn(t, l)
			})
		}
	}
}

// goOn lives to the end.
func goOn(t *testing.T, l *life) {
	t.Helper()
	if l.removing {
		l = &life{fs: l.fs, parent: l.parent, child: l.child, fork: l.fork, said: newLife().said}
	}
	if err := l.run(t.Context()); err != nil {
		t.Fatalf("the next life: %v", err)
	}
	if left := names(t, l.fs, timelinesDir); len(left) != 0 || l.fs.OpenFiles() != 0 {
		t.Errorf("%q are left, and %d open files", left, l.fs.OpenFiles())
	}
}

// TestErrorAnywhere fails every operation once. Trying again is enough; and what was said is durable all the same.
func TestErrorAnywhere(t *testing.T) {
	for _, n := range operations(t, true) {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%d/%v", n, errno), func(t *testing.T) {
				t.Parallel()
				l := newLife()
				if errno == syscall.EIO {
					l.fs.DropLostPages()
				}
				l.fs.Inject(crashfs.FailNth(n, errno))
				if err := l.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if left := names(t, l.fs, timelinesDir); len(left) != 0 || l.fs.OpenFiles() != 0 {
					t.Errorf("%q are left, and %d open files", left, l.fs.OpenFiles())
				}
			})
		}
	}
}

// TestCrashAfterError fails one operation, and crashes some operations later: an error that was coped with has left nothing that
// only memory knows.
func TestCrashAfterError(t *testing.T) {
	for _, n := range operations(t, true) {
		later := n + 1 + n*7%23
		t.Run(fmt.Sprintf("%d,%d", n, later), func(t *testing.T) {
			t.Parallel()
			l := newLife()
			l.fs.Inject(func(op crashfs.Op) error {
				switch op.N {
				case n:
					return syscall.EIO
				case later:
					return crashfs.ErrCrashed
				}
				return nil
			})
			if err := l.run(t.Context()); err != nil && !errors.Is(err, crashfs.ErrCrashed) {
				t.Fatal(err)
			}
			l.fs = l.fs.Restart(crashfs.Survivors{Seed: uint64(n)})
			l.check(t)
			goOn(t, l)
		})
	}
}
