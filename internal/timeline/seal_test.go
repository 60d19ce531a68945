package timeline_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// received is a timeline that holds a source up to an LSN, and is synchronous.
func received(t *testing.T, w *pgtest.Writer, to pg.LSN) (*timeline.Timeline, *crashfs.FS) {
	t.Helper()
	fsys := crashfs.New()
	tl := create(t, fsys)
	receive(t, tl, w, to)
	setQuorum(t, tl, "a")
	return tl, fsys
}

func seal(t *testing.T, tl *timeline.Timeline) timeline.SealResult {
	t.Helper()
	res, err := tl.Seal(t.Context(), false)
	must(t, err)
	return res
}

// TestSealDecidesTheRecordEnd: what is held may end inside a record; nobody's commit is in there.
func TestSealDecidesTheRecordEnd(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	w.Record(30_000)
	tl, fsys := received(t, w, end+10_000)
	res := seal(t, tl)
	if res.TLI != 1 || res.End != end || res.Warning != "" || res.DataLossAccepted || res.TailServed {
		t.Errorf("got %+v, want the end %s", res, end)
	}
	if flush := tl.Log().Flushed().LSN; flush != end+10_000 {
		t.Errorf("this test wants a raw end above the record end, got %s", flush)
	}
	if got := control(t, fsys.Restart(crashfs.Survivors{})).Seals; len(got) != 1 || got[0] != res.Seal {
		t.Errorf("durable is %+v", got)
	}
}

// TestSealedAgainAnswersTheSameEnd (F14): after a restart too, and although more was received above it since.
func TestSealedAgainAnswersTheSameEnd(t *testing.T) {
	w := source(1000, start+50_000)
	first := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, first)
	want := seal(t, tl)
	if got := seal(t, tl); got != want {
		t.Errorf("at once: %+v, want %+v", got, want)
	}
	receive(t, tl, w, w.End()) // only up to a fork, and never acknowledged; see package replication
	if got := seal(t, tl); got != want {
		t.Errorf("with more above: %+v, want %+v", got, want)
	}
	tl = open(t, shutdown(t, tl, fsys))
	if got := seal(t, tl); got.TLI != want.TLI || got.End != want.End || !got.At.Equal(want.At) {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
	if n := len(tl.Control().Seals); n != 1 {
		t.Errorf("%d seals", n)
	}
}

// TestSealWarnings: a seal that cannot promise that no commit is missing says so, each time.
func TestSealWarnings(t *testing.T) {
	for name, c := range map[string]struct {
		readings []string
		accept   bool
		warning  string
	}{
		"synchronous":         {[]string{"a"}, false, ""},
		"accepted in vain":    {[]string{"a"}, true, ""},
		"not synchronous":     {[]string{""}, false, "did not name this node"},
		"never read":          {nil, false, "never read"},
		"accepted data loss":  {[]string{"ANY 1 (a, b)"}, true, "--accept-data-loss"},
		"accepted, unbounded": {[]string{"*"}, true, "--accept-data-loss"},
	} {
		t.Run(name, func(t *testing.T) {
			tl := create(t, crashfs.New())
			w := source(1000, start+10_000)
			receive(t, tl, w, w.End())
			for _, raw := range c.readings {
				setQuorum(t, tl, raw)
			}
			for range 2 {
				res, err := tl.Seal(t.Context(), c.accept)
				must(t, err)
				if (c.warning == "") != (res.Warning == "") || !strings.Contains(res.Warning, c.warning) {
					t.Errorf("got %q, want %q", res.Warning, c.warning)
				}
			}
		})
	}
}

func TestSealIsRefusedWhereOneWordIsNotEnough(t *testing.T) {
	w := source(1000, start+50_000)
	tl, _ := received(t, w, w.End())
	setQuorum(t, tl, "ANY 1 (a, b)")
	_, err := tl.Seal(t.Context(), false)
	if unsealable := new(timeline.UnsealableError); !errors.As(err, &unsealable) || unsealable.TLI != 1 {
		t.Fatalf("got %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "TLI 1") || !strings.Contains(text, "on b only") || !strings.Contains(text, "--accept-data-loss") {
		t.Errorf("it does not say what to do: %s", text)
	}
	if _, sealed := tl.Control().SealOf(1); sealed {
		t.Error("it is sealed")
	}
	if tl.Snapshot().Sealing {
		t.Error("it goes on sealing")
	}
	receive(t, tl, w, w.End())
	res, err := tl.Seal(t.Context(), true)
	if err != nil || !res.DataLossAccepted || res.End != w.End() {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestSealOfNothing(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	if _, err := tl.Seal(t.Context(), true); !errors.Is(err, timeline.ErrEmpty) {
		t.Errorf("before a source was seen: %v", err)
	}
	must(t, tl.Adopt(t.Context(), adoption(start)))
	if _, err := tl.Seal(t.Context(), true); !errors.Is(err, timeline.ErrEmpty) {
		t.Errorf("before a record was complete: %v", err)
	}
	if c := control(t, fsys.Restart(crashfs.Survivors{})); len(c.Seals) != 0 {
		t.Errorf("durable is %+v", c.Seals)
	}
}

// TestSealOfAPoisonedLog: what a sync had vouched for is the end, whatever was written since.
func TestSealOfAPoisonedLog(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, end)
	must(t, tl.PrepareReceive(t.Context()))
	tl.Log().Rewind()
	must(t, tl.Log().Append(start, slice(w, start, w.End())))
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == "Datasync" {
			return syscall.EIO
		}
		return nil
	})
	if err := sync(tl); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	fsys.Inject(nil)
	if res := seal(t, tl); res.End != end {
		t.Errorf("got %+v, want the end %s", res, end)
	}
	tl = open(t, shutdown(t, tl, fsys))
	if res := seal(t, tl); res.End != end {
		t.Errorf("after a restart: %+v, want the end %s", res, end)
	}
}

// TestSealAfterASwitchEndsWhereItCanBeServed: a switch record ends with its segment, the zeros of which a source may not have
// sent any more. They are part of what was promised, so they have to be durable.
func TestSealAfterASwitchEndsWhereItCanBeServed(t *testing.T) {
	w := source(1000, start+50_000)
	from := w.End()
	w.Switch()
	tl, _ := received(t, w, from+32) // the record and no zero behind it
	res := seal(t, tl)
	if flush := tl.Log().Flushed().LSN; res.End != flush {
		t.Errorf("the end is %s, durable is %s", res.End, flush)
	}
	if res.End != start+mib {
		t.Errorf("the end is %s, want the segment's", res.End)
	}
}

// TestSealStopsTheReceiver: its end must know all that was acknowledged.
func TestSealStopsTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := source(1000, start+50_000)
		first := w.End()
		recordsTo(w, 1000, w.End()+50_000)
		tl, _ := received(t, w, first)
		end, err := tl.BeginReceive()
		must(t, err)
		tl.Wake().Take()

		sealed := make(chan timeline.SealResult, 1)
		go func() {
			res, err := tl.Seal(t.Context(), false)
			if err != nil {
				t.Error(err)
			}
			sealed <- res
		}()
		synctest.Wait()
		if !tl.Snapshot().Sealing || !tl.Wake().Take().Has(timeline.ReasonRequest) {
			t.Error("the manager is not told to stop the receiver")
		}
		if _, err := tl.BeginReceive(); !errors.Is(err, timeline.ErrSealing) {
			t.Errorf("another receiver: %v", err)
		}
		must(t, tl.PrepareReceive(t.Context()))
		must(t, stream(tl, w, w.End())) // its last words
		synctest.Wait()
		select {
		case res := <-sealed:
			t.Fatalf("sealed beside a receiver: %+v", res)
		default:
		}
		end()
		if res := <-sealed; res.End != w.End() {
			t.Errorf("got %+v, want the end %s", res, w.End())
		}
		if tl.Snapshot().Sealing || !tl.Wake().Take().Has(timeline.ReasonRequest) {
			t.Error("the manager is not told that sealing is over")
		}
		end, err = tl.BeginReceive() // the source will be refused, or be a child's
		must(t, err)
		end()
	})
}

func TestWaitForTheReceiverCanBeCancelled(t *testing.T) {
	for name, c := range map[string]struct {
		byShutdown bool
		is         error
	}{
		"by the caller":   {false, errStop},
		"by the shutdown": {true, timeline.ErrShuttingDown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := source(1000, start+50_000)
				tl, fsys := received(t, w, w.End())
				end, err := tl.BeginReceive()
				must(t, err)
				defer end()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				failed := make(chan error, 1)
				go func() {
					_, err := tl.Seal(ctx, false)
					failed <- err
				}()
				synctest.Wait()
				if c.byShutdown {
					must(t, tl.Shutdown(t.Context(), errStop))
				} else {
					cancel(errStop)
				}
				if err := <-failed; !errors.Is(err, c.is) || !errors.Is(err, errStop) {
					t.Errorf("got %v", err)
				}
				if tl.Snapshot().Sealing {
					t.Error("it goes on sealing")
				}
				if c := control(t, fsys.Restart(crashfs.Survivors{})); len(c.Seals) != 0 {
					t.Errorf("durable is %+v", c.Seals)
				}
			})
		})
	}
}

// TestSealsAtOnceDecideOnce: many ask, one seal is there.
func TestSealsAtOnceDecideOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := source(1000, start+50_000)
		tl, fsys := received(t, w, w.End())
		saving := make(chan struct{})
		fsys.Inject(func(op crashfs.Op) error {
			if op.Name == "Create" {
				<-saving // until all others have come as far as they can
			}
			return nil
		})
		results := make(chan timeline.SealResult, 8)
		for range cap(results) {
			go func() {
				res, err := tl.Seal(t.Context(), false)
				if err != nil {
					t.Error(err)
				}
				results <- res
			}()
		}
		synctest.Wait()
		close(saving)
		first := <-results
		for range cap(results) - 1 {
			if res := <-results; res != first {
				t.Errorf("got %+v and %+v", res, first)
			}
		}
		if seals := control(t, fsys.Restart(crashfs.Survivors{})).Seals; len(seals) != 1 {
			t.Errorf("durable is %+v", seals)
		}
	})
}

// TestSealOfAPoisonedLogBehindASwitch: an end above what is durable could never be served.
func TestSealOfAPoisonedLogBehindASwitch(t *testing.T) {
	w := source(1000, start+50_000)
	from := w.End()
	w.Switch()
	tl, fsys := received(t, w, from+32)
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == "WriteAt" && !strings.HasSuffix(op.Path, "control.tmp") {
			return syscall.EIO
		}
		return nil
	})
	must(t, tl.PrepareReceive(t.Context()))
	tl.Log().Rewind()
	if err := tl.Log().Append(start, slice(w, start, from+1000)); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	if res, err := tl.Seal(t.Context(), false); !errors.Is(err, syscall.EIO) {
		t.Errorf("sealed at %s beside a durable end of %s: %v", res.End, tl.Log().Flushed(), err)
	}
	fsys.Inject(nil)
	if res := seal(t, tl); res.End != start+mib || tl.Log().Flushed().LSN != res.End {
		t.Errorf("once the disk works again: %+v, durable to %s", res, tl.Log().Flushed())
	}
}

func TestUnseal(t *testing.T) {
	w := source(1000, start+50_000)
	first := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, first)
	if _, err := tl.Unseal(t.Context(), true); !errors.Is(err, timeline.ErrNotSealed) {
		t.Errorf("of what is not sealed: %v", err)
	}
	want := seal(t, tl)
	if got, err := tl.Unseal(t.Context(), false); err != nil || got != want.Seal {
		t.Errorf("got %+v, %v", got, err)
	}
	if c := control(t, fsys.Restart(crashfs.Survivors{Killed: true})); len(c.Seals) != 0 {
		t.Errorf("durable is %+v", c.Seals)
	}
}

func TestUnsealAfterTheTailWasServed(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	if err := tl.MarkTailServed(t.Context(), timeline.Seal{TLI: 1, End: w.End()}); !errors.Is(err, timeline.ErrNotSealed) {
		t.Errorf("mark what is not sealed: %v", err)
	}
	sealed := seal(t, tl).Seal
	must(t, tl.MarkTailServed(t.Context(), sealed))
	ops := fsys.Ops()
	must(t, tl.MarkTailServed(t.Context(), sealed))
	if fsys.Ops() != ops {
		t.Error("the second mark was saved")
	}
	tl = open(t, shutdown(t, tl, fsys))
	if _, err := tl.Unseal(t.Context(), false); !errors.Is(err, timeline.ErrTailServed) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v", err)
	}
	if res := seal(t, tl); !res.TailServed {
		t.Errorf("got %+v", res)
	}
	if got, err := tl.Unseal(t.Context(), true); err != nil || !got.TailServed {
		t.Errorf("by force: %+v, %v", got, err)
	}
}

// TestTailOfASealThatWasTakenBack must not go out: commits above it were acknowledged since.
func TestTailOfASealThatWasTakenBack(t *testing.T) {
	w := source(1000, start+50_000)
	first := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, _ := received(t, w, first)
	old := seal(t, tl).Seal
	_, err := tl.Unseal(t.Context(), false)
	must(t, err)
	receive(t, tl, w, w.End())
	seal(t, tl)
	if err := tl.MarkTailServed(t.Context(), old); !errors.Is(err, timeline.ErrNotSealed) {
		t.Errorf("got %v", err)
	}
}

// TestSealIsOfTheNewestTLI: once a child was followed, the parent's seal stays, and is not the child's.
func TestSealIsOfTheNewestTLI(t *testing.T) {
	w := source(1000, start+50_000)
	tl, _ := received(t, w, w.End())
	first := seal(t, tl)
	if h := tl.Held(); h.Seal == nil || *h.Seal != first.Seal {
		t.Errorf("held is %+v", h)
	}
	fork := w.End()
	w.Promote(2)
	recordsTo(w, 1000, w.End()+50_000)
	follow(t, tl, fork)
	if h := tl.Held(); h.Seal != nil || h.Position != position(2, fork) {
		t.Errorf("held is %+v", h)
	}
	if _, err := tl.Unseal(t.Context(), true); !errors.Is(err, timeline.ErrNotSealed) {
		t.Errorf("unseal of the child: %v", err)
	}
	receive(t, tl, w, w.End())
	second := seal(t, tl)
	if second.TLI != 2 || second.End != w.End() {
		t.Errorf("got %+v", second)
	}
	if got, _ := tl.Control().SealOf(1); got != first.Seal {
		t.Errorf("TLI 1 has %+v, want %+v", got, first.Seal)
	}
}
