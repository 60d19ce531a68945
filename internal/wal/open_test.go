package wal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

const (
	first         = dir + "/000000010000000000000001"
	firstPartial  = first + ".partial"
	second        = dir + "/000000010000000000000002"
	secondPartial = second + ".partial"
)

func TestCleanStartIsExactAndCopiesNothing(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	end := w.End() - 300 // inside the last record
	l, disk := filledLog(t, w, end)
	mustClose(t, l)
	writes := 0
	disk.Inject(func(op crashfs.Op) error {
		if op.Mutates && op.Name != "Mkdir" && op.Name != "SyncDir" {
			writes++
		}
		return nil
	})
	l = openLog(t, disk, closed(l))
	if writes != 0 {
		t.Errorf("%d changes", writes)
	}
	wantHeld(t, l, w, position(1, end))
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// What was appended and not synced may be there after a crash. It counts as far as it is records.
func TestUncleanStartFindsTheLastRecord(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	cut := w.End() - 300
	l, disk := filledLog(t, w, start+mib+8192)
	control := vouched(l)
	appendAll(t, l, w, start+mib+8192, cut)
	l = openLog(t, disk.Restart(crashfs.Survivors{Killed: true}), control)
	wantHeld(t, l, w, position(1, l.RecordEnd()))
	if got := l.RecordEnd(); got <= cut-2000 || got > cut {
		t.Errorf("record end %s, cut at %s", got, cut)
	}
}

// The process that died may have seen a sync fail: what it could read, and what can be read now, may not be on disk.
func TestUncleanStartTrustsNoOldFile(t *testing.T) {
	w := source(1000, start+mib/2)
	l, disk := filledLog(t, w, start+100_000)
	control := vouched(l)
	appendAll(t, l, w, start+100_000, start+300_000)
	disk.Inject(func(op crashfs.Op) error {
		if op.Name == "Datasync" {
			return syscall.EIO
		}
		return nil
	})
	if _, err := l.Sync(); err == nil {
		t.Fatal("the sync did not fail")
	}
	disk.Inject(nil)
	disk = disk.Restart(crashfs.Survivors{Killed: true})
	l = openLog(t, disk, control)
	got := l.Flushed()
	l = openLog(t, disk.Restart(crashfs.Survivors{}), vouched(l))
	wantHeld(t, l, w, got)
}

// Zeros are no end: behind pg_switch_wal they are WAL, and a record may consist of them.
func TestZerosAreNoEnd(t *testing.T) {
	w := newSource()
	w.Record(1000)
	w.Switch()
	w.Record(1000)
	_, disk := filledLog(t, w, w.End())
	l := openLog(t, disk.Restart(crashfs.Survivors{}), wal.Vouched{Position: position(1, start), Start: start})
	wantHeld(t, l, w, position(1, w.End()))
}

// The rest of the segment is known from the moment that the switch record is there.
func TestSwitchRecordEndsItsSegment(t *testing.T) {
	w := newSource()
	before := w.Record(1000).End
	w.Switch()
	l, disk := filledLog(t, w, before+24)
	if got := l.RecordEnd(); got != start+mib {
		t.Fatalf("record end %s", got)
	}
	l = openLog(t, disk.Restart(crashfs.Survivors{}), vouched(l))
	wantHeld(t, l, w, position(1, start+mib))
	w.Record(1000)
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// The open segment begins with the rest of a record that only the segments before it can verify.
func TestRecordOverManySegmentsIsVerifiedFromItsBeginning(t *testing.T) {
	w := newSource()
	w.Record(1000)
	big := w.Record(5 * mib)
	w.Record(1000)
	w.Record(1000)
	l, disk := filledLog(t, w, w.End())
	mustClose(t, l)
	early := wal.Vouched{Position: position(1, start), Start: start}

	disk = disk.Restart(crashfs.Survivors{})
	l = openLog(t, disk, early)
	wantHeld(t, l, w, position(1, w.End()))

	open := dir + "/" + pg.SegmentName(1, seg.SegNo(big.End), seg) + pg.PartialSuffix
	torn := file(t, disk, open)
	clear(torn[4096:8192]) // a page that did not reach the disk, though one behind it did
	overwrite(t, disk, open, torn)
	l = openLog(t, disk, early)
	if got, want := l.Flushed().LSN, seg.StartOf(big.End); got != want {
		t.Errorf("flushed %s, want the end of the whole segments %s", got, want)
	}
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

func TestOpenSegmentsOfAnyContentDoNoHarm(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	whole := append(slices.Clone(slice(w, start+mib, w.End())), make([]byte, int(start+2*mib-w.End()))...)
	stranger := source(900, start+2*mib)
	border := start + pg.LSN(mib)
	for name, tc := range map[string]struct {
		content []byte
		want    pg.LSN // zero: the end of the last record
	}{
		"empty":                {nil, border},
		"zeros":                {make([]byte, mib), border},
		"short zeros":          {make([]byte, 802_816), border},
		"garbage":              {bytes.Repeat([]byte("garbage!"), mib/8), border},
		"another server's":     {slices.Clone(slice(stranger, start+mib, start+2*mib)), border},
		"short":                {whole[:100_000], 0},
		"one byte":             {whole[:1], border},
		"too long":             {append(slices.Clone(whole), whole...), 0},
		"right":                {whole, 0},
		"torn":                 {append(slices.Clone(whole[:65536]), make([]byte, mib-65536)...), 0},
		"page header, no more": {append(slices.Clone(whole[:40]), make([]byte, mib-40)...), border},
	} {
		t.Run(name, func(t *testing.T) {
			l, disk := filledLog(t, w, w.End())
			mustClose(t, l)
			overwrite(t, disk, secondPartial, tc.content)
			l = openLog(t, disk, wal.Vouched{Position: position(1, start), Start: start})
			got := l.Flushed().LSN
			if tc.want != 0 && got != tc.want || tc.want == 0 && (got <= border || got != l.RecordEnd()) {
				t.Errorf("flushed %s, record end %s", got, l.RecordEnd())
			}
			wantHeld(t, l, w, l.Flushed())
			appendAll(t, l, w, l.Rewind(), w.End())
			mustClose(t, l)
			disk = disk.Restart(crashfs.Survivors{})
			l = openLog(t, disk, closed(l))
			wantHeld(t, l, w, position(1, w.End()))
			if got := file(t, disk, secondPartial); !bytes.Equal(got, whole) {
				t.Errorf("the open segment has %d bytes, or wrong ones", len(got))
			}
		})
	}
}

func TestDamageIsSaidAndNothingIsTouched(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	truncate := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	gone := func([]byte) []byte { return nil }
	for name, tc := range map[string]struct {
		file   string
		damage func([]byte) []byte
		valid  pg.LSN // about where
	}{
		"flipped bit below what is vouched for": {secondPartial, flip(200_000), start + mib + 200_000},
		"flipped bit in the last whole segment": {first, flip(500_000), start + 500_000},
		"open segment too short":                {secondPartial, truncate(8192), start + mib + 8192},
		"open segment empty":                    {secondPartial, truncate(0), start + mib},
		"open segment zeroed":                   {secondPartial, func(b []byte) []byte { clear(b); return b }, start + mib},
		"open segment gone":                     {secondPartial, gone, start + mib},
		"last whole segment too short":          {first, truncate(300_000), start + 300_000},
	} {
		for _, clean := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				l, disk := filledLog(t, w, w.End())
				mustClose(t, l)
				control := vouched(l)
				control.Clean = clean
				b := tc.damage(file(t, disk, tc.file))
				if b == nil {
					if err := disk.Remove(tc.file); err != nil {
						t.Fatal(err)
					}
				} else {
					overwrite(t, disk, tc.file, b)
				}
				before := contents(t, disk)
				_, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, control)
				var damage *wal.DamagedError
				if !errors.As(err, &damage) {
					t.Fatalf("open: %v", err)
				}
				if got := damage.Valid.LSN; got > tc.valid || got+9000 < tc.valid || damage.Vouched.LSN < start+mib {
					t.Errorf("%v", err)
				}
				if got := contents(t, disk); !slices.Equal(got, before) {
					t.Errorf("files changed from\n%s\nto\n%s", before, got)
				}
			})
		}
	}
}

// contents lists files with their sizes.
func contents(t *testing.T, disk wal.FS) []string {
	t.Helper()
	var all []string
	for _, name := range names(t, disk, dir) {
		all = append(all, name+string(file(t, disk, dir+"/"+name)))
	}
	return all
}

func TestDirectoryThatLostEverythingIsNotTakenForANewOne(t *testing.T) {
	for name, tc := range map[string]struct {
		at      pg.LSN
		damaged bool
	}{
		"never held anything": {start, false},
		"on a border":         {start + 3*mib, true},
		"inside a segment":    {start + 3*mib + 5000, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wal.Open(dir, wal.Config{FS: crashfs.New(), SegmentSize: seg}, wal.Vouched{Position: position(1, tc.at), Start: start})
			var damage *wal.DamagedError
			if errors.As(err, &damage) != tc.damaged {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestHoleAboveWhatIsVouchedForIsDamage(t *testing.T) {
	w := source(1000, start+4*mib)
	l, disk := filledLog(t, w, w.End())
	mustClose(t, l)
	if err := disk.Remove(second); err != nil {
		t.Fatal(err)
	}
	var damage *wal.DamagedError
	_, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, wal.Vouched{Position: position(1, start+100_000), Start: start})
	if !errors.As(err, &damage) {
		t.Errorf("open: %v", err)
	}
	// Above the hole all is well, and further down somebody may have removed what he did not need.
	l = openLog(t, disk, vouched(l))
	if got := l.Flushed(); got != position(1, w.End()) {
		t.Errorf("flushed %s", got)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	w := source(1000, start+mib/2)
	l, disk := filledLog(t, w, w.End())
	mustClose(t, l)
	foreign := []string{"archive_status", "README", "00000001000000000000000", "000000010000000000001000", "000000010000000000000001.gz", "1.history", "00000000.history"}
	for _, name := range foreign {
		overwrite(t, disk, dir+"/"+name, []byte("mine"))
	}
	if err := disk.MkdirAll(dir + "/000000010000000000000009"); err != nil {
		t.Fatal(err)
	}
	overwrite(t, disk, dir+"/000000010000000000000007.tmp", []byte("left by a crash"))
	l = openLog(t, disk, vouched(l))
	wantHeld(t, l, w, position(1, w.End()))
	want := append(foreign, "000000010000000000000009", "000000010000000000000001.partial")
	got := names(t, disk, dir)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestUnreadableFilesAreAnErrorThatNamesThem(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	l, disk := filledLog(t, w, w.End())
	mustClose(t, l)
	for _, op := range []string{"ReadDir", "Open", "ReadAt"} {
		disk.Inject(func(o crashfs.Op) error {
			if o.Name == op {
				return fs.ErrPermission
			}
			return nil
		})
		var path *fs.PathError
		_, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, vouched(l))
		if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &path) || path.Path == "" {
			t.Errorf("%s fails: %v", op, err)
		}
	}
}

func TestSegmentSizeMustBeValid(t *testing.T) {
	if _, err := wal.Open(dir, wal.Config{FS: crashfs.New(), SegmentSize: 3 << 20}, wal.Vouched{}); err == nil {
		t.Error("opened with segments of 3 MiB")
	}
}

func TestSegmentHasItsSizeFromTheMomentThatItHasItsName(t *testing.T) {
	w := source(1000, start+mib/2)
	for name, expected := range map[string]pg.LSN{"filled": start, "allocated": start + 2*mib} {
		for seed := range uint64(20) {
			disk := crashfs.New()
			l := newLog(t, disk)
			l.Expect(expected)
			appendAll(t, l, w, start, start+8192)
			if seed == 0 {
				mustSync(t, l) // nothing else survives
			}
			info, err := disk.Restart(crashfs.Survivors{Seed: seed}).Stat(firstPartial)
			if seed == 0 && err != nil || err == nil && info.Size() != mib {
				t.Errorf("%s, seed %d: %v, %v", name, seed, info, err)
			}
		}
	}
}

// FuzzOpenSegment puts anything into the open segment: it must come to an end, in the segment, and go on.
func FuzzOpenSegment(f *testing.F) {
	w := source(1000, start+100_000)
	f.Add(slice(w, start, w.End()), uint32(50_000))
	f.Add(slice(w, start, w.End()), uint32(0))
	f.Add(make([]byte, 8192), uint32(8192))
	f.Add([]byte(nil), uint32(1))
	f.Fuzz(func(t *testing.T, content []byte, vouchedBytes uint32) {
		disk := crashfs.New()
		if err := disk.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		overwrite(t, disk, firstPartial, content)
		v := wal.Vouched{Position: position(1, start+pg.LSN(vouchedBytes)), Start: start}
		l, err := wal.Open(dir, wal.Config{FS: disk, SegmentSize: seg}, v)
		var damage *wal.DamagedError
		if errors.As(err, &damage) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer mustClose(t, l)
		end := l.Flushed().LSN
		if end < v.Position.LSN || end > start+mib {
			t.Fatalf("the end is %s", end)
		}
		n := min(int(end-start), len(content))
		if got := held(t, l); len(got) > n && !bytes.Equal(got[:n], content[:n]) {
			t.Error("other bytes than were there")
		}
	})
}
