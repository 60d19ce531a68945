package wal_test

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// The stories of crash_test.go switch TLIs in all ways. Here is what they leave, in the words of files.
func TestSwitchLeaves(t *testing.T) {
	const (
		parent1, parent2, parent3 = "000000010000000000000001", "000000010000000000000002", "000000010000000000000003"
		child1, child2            = "000000020000000000000001", "000000020000000000000002"
		partial                   = ".partial"
		history                   = "00000002.history"
	)
	for name, want := range map[string]struct{ files, diverged []string }{
		"fork at the end":                          {[]string{parent1 + partial, history, child1 + partial}, nil},
		"fork at the end, on a border":             {[]string{parent1, history}, nil},
		"fork below two segments":                  {[]string{parent1 + partial, history, child1 + partial}, []string{parent1, parent2, parent3 + partial}},
		"fork below a segment, on a border":        {[]string{parent1, history}, []string{parent2, parent3 + partial}},
		"fork below half a record":                 {[]string{parent1 + partial, history, child1 + partial}, nil},
		"fork below half a record of two segments": {[]string{parent1 + partial, history, child1 + partial}, nil},
		"fork on a border, below half a record":    {[]string{parent1, history}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := stories()[name]
			l, disk := filledLog(t, s.parent, s.last)
			kept, err := l.SwitchTLI(childHistory(s.fork), childHistoryFile(s.fork))
			if err != nil {
				t.Fatal(err)
			}
			wantHeld(t, l, s.child, position(2, s.fork))
			if l.Position() != position(2, s.fork) || l.RecordEnd() != s.fork || l.Verified() {
				t.Errorf("position %s, record end %s, verified %v", l.Position(), l.RecordEnd(), l.Verified())
			}
			files := slices.DeleteFunc(names(t, disk, dir), func(n string) bool { return n == "diverged" })
			slices.Sort(want.files)
			if !slices.Equal(files, want.files) {
				t.Errorf("files %q, want %q", files, want.files)
			}
			var diverged []string
			for _, k := range kept {
				diverged = append(diverged, names(t, disk, k.Path)...)
			}
			if !slices.Equal(diverged, want.diverged) {
				t.Errorf("diverged %q, want %q", diverged, want.diverged)
			}
			if got := l.Stats(); got.DivergedBytes != int64(len(want.diverged))*mib || !slices.Equal(got.Diverged, kept) {
				t.Errorf("stats: %+v", got)
			}
			raw, err := l.History(2)
			if err != nil || !bytes.Equal(raw, childHistoryFile(s.fork)) {
				t.Errorf("history %q, %v", raw, err)
			}
			if info := file(t, disk, dir+"/"+files[0]); len(bytes.Trim(info[seg.Offset(s.fork-1)+1:], "\x00")) != 0 {
				t.Error("the parent has bytes above the fork")
			}
			appendAll(t, l, s.child, l.Rewind(), s.child.End())
			if !l.Verified() {
				t.Error("not verified")
			}
			mustSync(t, l)
			wantHeld(t, l, s.child, position(2, s.child.End()))
		})
	}
}

func TestSwitchTwiceKeepsBothTails(t *testing.T) {
	s := stories()["fork below two segments"]
	var events []wal.Diverged
	disk := crashfs.New()
	cfg := wal.Config{FS: disk, SegmentSize: seg, Events: wal.Events{Diverged: func(d wal.Diverged) { events = append(events, d) }}}
	l, err := wal.Open(dir, cfg, wal.Vouched{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, l)
	if err := l.Start(position(1, start)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, s.parent, start, s.last)
	if _, err := l.SwitchTLI(childHistory(s.fork), childHistoryFile(s.fork)); err != nil {
		t.Fatal(err)
	}
	grandchild := s.child.Fork(3)
	recordsTo(grandchild, 20_000, grandchild.End()+300_000)
	fork := s.child.End()
	s.child.Record(5000)
	appendAll(t, l, s.child, l.Rewind(), s.child.End())
	raw := append(childHistoryFile(s.fork), []byte("\n2\t"+fork.String()+"\twhy not\n")...)
	h, err := pg.ParseHistory(3, raw)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := l.SwitchTLI(h, raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 || kept[0].TLI != 1 || kept[1].TLI != 2 || kept[1].From != fork || kept[1].To != s.child.End() || !slices.Equal(events, kept) {
		t.Errorf("diverged %+v, events %+v", kept, events)
	}
	appendAll(t, l, grandchild, l.Rewind(), grandchild.End())
	mustSync(t, l)
	wantHeld(t, l, grandchild, position(3, grandchild.End()))
	// A segment may be there three times, and each ends where its TLI was left.
	for tli, end := range map[pg.TLI]pg.LSN{1: s.fork, 2: fork, 3: grandchild.End()} {
		r, err := l.OpenSegment(tli, seg.SegNo(fork))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Durable(); got != end {
			t.Errorf("TLI %d ends at %s, want %s", tli, got, end)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSwitchIsRefused(t *testing.T) {
	w := source(1000, start+mib/2)
	end := w.End()
	for name, tc := range map[string]struct {
		tli pg.TLI
		raw string
	}{
		"a fork above what is held":      {2, "1\t" + (end + 8).String() + "\n"},
		"a history that does not pass 1": {3, "2\t" + end.String() + "\n"},
		"a TLI that is not newer":        {1, ""},
		"a TLI in between":               {3, "1\t0/140000\n2\t" + end.String() + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l, disk := filledLog(t, w, end)
			h, err := pg.ParseHistory(tc.tli, []byte(tc.raw))
			if err != nil {
				t.Fatal(err)
			}
			disk.Inject(func(op crashfs.Op) error {
				if op.Mutates && path.Base(op.Path) != "next.tmp" { // which is prepared in the background
					t.Errorf("%+v", op)
				}
				return nil
			})
			if _, err := l.SwitchTLI(h, []byte(tc.raw)); err == nil || errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("switch: %v", err)
			}
			wantHeld(t, l, w, position(1, end))
		})
	}
}

func TestTwoPromotionsWithOneNumberAreToldApart(t *testing.T) {
	w := source(1000, start+mib/2)
	l, _ := filledLog(t, w, w.End())
	if err := l.StoreHistory(2, []byte("1\t0/140000\tanother\n")); err == nil {
		t.Error("a history of a TLI was stored that nobody follows")
	}
	if _, err := l.SwitchTLI(childHistory(w.End()), childHistoryFile(w.End())); err != nil {
		t.Fatal(err)
	}
	if err := l.StoreHistory(2, childHistoryFile(w.End()-8)); err == nil {
		t.Error("another history of TLI 2 was stored")
	}
	if err := l.StoreHistory(2, childHistoryFile(w.End())); err != nil {
		t.Error(err)
	}
}

// A log may begin on any TLI; what it needs to be restored from is stored beside it.
func TestLogBeginsOnALaterTLI(t *testing.T) {
	disk := crashfs.New()
	l := openLog(t, disk, wal.Vouched{})
	raw := []byte("1\t0/8000\n2\t0/9000\n")
	if err := l.StoreHistory(3, raw); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, disk.Restart(crashfs.Survivors{}), wal.Vouched{})
	if p := l.Position(); !p.IsZero() {
		t.Fatalf("a history alone made a position: %s", p)
	}
	disk = crashfs.New()
	l = openLog(t, disk, wal.Vouched{})
	if err := l.StoreHistory(3, raw); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(position(3, start)); err != nil {
		t.Fatal(err)
	}
	w := newSource().Fork(3)
	recordsTo(w, 1000, start+mib/2)
	appendAll(t, l, w, start, w.End())
	mustSync(t, l)
	for _, v := range []wal.Vouched{vouched(l), {Position: position(3, start)}, {}} {
		disk = disk.Restart(crashfs.Survivors{})
		l = openLog(t, disk, v)
		wantHeld(t, l, w, position(3, w.End()))
	}
}

func TestHistoryThatContradictsTheControlFileIsDamage(t *testing.T) {
	w := source(1000, start+mib/2)
	l, disk := filledLog(t, w, w.End())
	mustClose(t, l)
	overwrite(t, disk, dir+"/00000003.history", []byte("2\t0/9000\n"))
	var damage *wal.DamagedError
	if _, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, vouched(l)); !errors.As(err, &damage) {
		t.Errorf("open: %v", err)
	}
	overwrite(t, disk, dir+"/00000003.history", []byte("what?"))
	if _, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, vouched(l)); err == nil {
		t.Error("opened with a history that cannot be read")
	}
}

// A child that forks below everything that is held cannot be followed, and trying it does no harm.
func TestSwitchBelowWhatIsHeldChangesNothing(t *testing.T) {
	w := source(1000, start+3*pg.LSN(seg))
	fs := crashfs.New()
	l := openLog(t, fs, wal.Vouched{})
	from := start + pg.LSN(seg)
	if err := l.Start(position(1, from)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, w, from, w.End())
	mustSync(t, l)
	before := names(t, fs, dir)
	fork := start + 1000
	if _, err := l.SwitchTLI(childHistory(fork), childHistoryFile(fork)); err == nil {
		t.Fatal("a child that forks below what is held was followed")
	}
	if got := names(t, fs, dir); !slices.Equal(got, before) {
		t.Errorf("files are %q now, and were %q", got, before)
	}
	if l.Stats().Poisoned != nil || l.Position() != position(1, w.End()) {
		t.Errorf("the log is at %s, poisoned: %v", l.Position(), l.Stats().Poisoned)
	}
	appendAll(t, l, w, l.Rewind(), w.End())
}
