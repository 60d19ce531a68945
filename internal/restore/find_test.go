package restore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

// living returns a place with three and a half segments of TLI 1, all of it committed, and what it holds.
func living(t *testing.T, name string) (*memory, []byte) {
	t.Helper()
	w := writer()
	fill(w, small.Start(4)+pg.LSN(small/2))
	m := newMemory(name)
	m.keep(1, w.Start(), w.Bytes())
	m.says.StartLSN, m.says.OldestLSN, m.says.CommitLSN = w.Start(), w.Start(), w.End()
	t.Cleanup(func() {
		if m.open != 0 {
			t.Errorf("%d segments of %s were not closed", m.open, name)
		}
	})
	return m, bytes.Clone(w.Bytes())
}

func TestWholeSegmentIsWhatWasWritten(t *testing.T) {
	m, wal := living(t, "a")
	for n := pg.SegNo(1); n < 4; n++ {
		found := find(t, segment(1, n), m)
		got := content(t, found)
		if want := wal[(n-1)*pg.SegNo(small):][:small]; !bytes.Equal(got, want) {
			t.Errorf("segment %d differs", n)
		}
		if found.Body.Size != int64(small) || found.Body.Digest != sha256.Sum256(got) {
			t.Errorf("segment %d has another size or digest than it says", n)
		}
	}
}

func TestSealedTailIsFilledWithZeros(t *testing.T) {
	m, wal := living(t, "a")
	m.says.Seals[1] = m.says.CommitLSN
	got := content(t, find(t, segment(1, 4), m))
	tail := wal[3*small:]
	if !bytes.Equal(got[:len(tail)], tail) || len(bytes.Trim(got[len(tail):], "\x00")) > 0 || len(got) != int(small) {
		t.Error("the last segment is not the bytes up to the end, and zeros")
	}
}

func TestBytesAboveTheEndStayHere(t *testing.T) {
	w := writer()
	end := w.Record(3000).End
	w.Record(50_000)
	m := newMemory("a")
	m.keep(1, w.Start(), w.Bytes())
	m.says.CommitLSN, m.says.Seals[1] = end, end
	got := content(t, find(t, segment(1, 1), m))
	if held := int(end - w.Start()); !bytes.Equal(got[:held], w.Bytes()[:held]) || len(bytes.Trim(got[held:], "\x00")) > 0 {
		t.Error("something above the end was handed out")
	}
}

// TestFlippedBitIsFound flips one bit in every part of a segment: its first record began in the segment before, its last
// ends in the segment after.
func TestFlippedBitIsFound(t *testing.T) {
	for _, offset := range []int64{0, 9, 41, 100, 8192, 8192 + 30, int64(small) / 2, int64(small) - 1} {
		m, _ := living(t, "a")
		m.bytes(1, 2)[offset] ^= 0x10
		found := find(t, segment(1, 2), m)
		if found.Kind != restore.Unknown || found.Reason != restore.Damaged {
			t.Errorf("a bit at %d was flipped: %v (%s)", offset, found.Kind, found.Reason)
		}
	}
}

// TestRecordAcrossTheBorderIsVerifiedFromBothSides: the segment that was handed out decides whether PostgreSQL can read on.
func TestRecordAcrossTheBorderIsVerifiedFromBothSides(t *testing.T) {
	m, _ := living(t, "a")
	m.bytes(1, 3)[50] ^= 1 // the rest of a record that began in segment 2
	for _, n := range []pg.SegNo{2, 3} {
		if found := find(t, segment(1, n), m); found.Reason != restore.Damaged {
			t.Errorf("segment %d: %v (%s): %s", n, found.Kind, found.Reason, found.Text)
		}
	}
	content(t, find(t, segment(1, 1), m))
}

func TestLongRecordIsVerifiedOverSegments(t *testing.T) {
	w := writer()
	fill(w, small.Start(1)+pg.LSN(small/2))
	w.Record(3 * int(small)) // from segment 1 to segment 4
	fill(w, small.Start(5)+100)
	for n := pg.SegNo(1); n <= 4; n++ {
		m := newMemory("a")
		m.keep(1, w.Start(), w.Bytes())
		m.says.CommitLSN = w.End()
		content(t, find(t, segment(1, n), m))
		m.bytes(1, 2)[small/2] ^= 1
		if found := find(t, segment(1, n), m); found.Reason != restore.Damaged {
			t.Errorf("segment %d, with a flipped bit in the record that fills segment 2: %v (%s)", n, found.Kind, found.Reason)
		}
	}
}

func TestSegmentBelowWasRemoved(t *testing.T) {
	m, wal := living(t, "a")
	delete(m.segments, segment(1, 1).File)
	if got := content(t, find(t, segment(1, 2), m)); !bytes.Equal(got, wal[small:2*small]) {
		t.Error("segment 2 differs")
	}
}

func TestSwitchedSegmentIsWhole(t *testing.T) {
	w := writer()
	w.Record(5000)
	w.Switch()
	w.Record(100)
	m := newMemory("a")
	m.keep(1, w.Start(), w.Bytes())
	m.says.CommitLSN = w.End()
	m.says.Seals[1] = w.End()
	for n := pg.SegNo(1); n <= 2; n++ {
		content(t, find(t, segment(1, n), m))
	}
}

// TestSwitchWithoutItsZeros: the primary died before it sent what follows a switch record, and the end is the segment's.
func TestSwitchWithoutItsZeros(t *testing.T) {
	w := writer()
	r := w.Record(5000)
	end := w.Switch().End
	m := newMemory("a")
	m.keep(1, w.Start(), w.Bytes()[:r.End+24-w.Start()])
	m.says.held = []extent{{1, w.Start(), end}}
	m.says.CommitLSN, m.says.Seals[1] = end, end
	if got := content(t, find(t, segment(1, 1), m)); !bytes.Equal(got, w.Bytes()) {
		t.Error("it is not the segment that the primary had")
	}
}

func TestShortAndForeignSegmentsAreDamaged(t *testing.T) {
	tests := map[string]func(m *memory){
		"truncated": func(m *memory) {
			f := segment(1, 2).File
			m.segments[f] = m.segments[f][:small/2] // it says that it has more
		},
		"zeros":              func(m *memory) { clear(m.bytes(1, 2)[small/2:]) },
		"of another number":  func(m *memory) { copy(m.bytes(1, 2), m.bytes(1, 3)) },
		"of another cluster": func(m *memory) { m.says.SystemID++ },
	}
	for name, damage := range tests {
		m, _ := living(t, "a")
		damage(m)
		if found := find(t, segment(1, 2), m); found.Reason != restore.Damaged {
			t.Errorf("%s: %v (%s)", name, found.Kind, found.Reason)
		}
	}
}

func TestDamagedCopyIsFetchedFromElsewhere(t *testing.T) {
	a, wal := living(t, "a")
	b, _ := living(t, "b")
	a.bytes(1, 2)[5000] ^= 1
	found := find(t, segment(1, 2), a, b)
	if got := content(t, found); !bytes.Equal(got, wal[small:2*small]) {
		t.Error("segment 2 differs")
	}
	if found.From[0] != "b" || !strings.Contains(found.Text, "a: 000000010000000000000002 is damaged") {
		t.Errorf("from %v, and it says %q", found.From, found.Text)
	}
}

func TestEndThatIsNoRecordEndIsRefused(t *testing.T) {
	m, _ := living(t, "a")
	m.says.Seals[1] = m.says.CommitLSN - 8
	if found := find(t, segment(1, 4), m); found.Reason != restore.Damaged {
		t.Errorf("%v (%s)", found.Kind, found.Reason)
	}
}

func TestSegmentOfAFork(t *testing.T) {
	parent := writer()
	fill(parent, small.Start(2)+pg.LSN(small/2))
	fork := parent.End()
	child := parent.Fork(2)
	fill(child, small.Start(4)+100)

	m := newMemory("a")
	m.keep(1, parent.Start(), parent.Bytes())
	m.keep(2, small.Start(2), child.Bytes()[small:])
	m.says.History = pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork}}}
	m.says.CommitLSN = child.End()
	m.says.Seals[2] = child.End()

	got := content(t, find(t, segment(1, 2), m))
	if end := int(fork - small.Start(2)); !bytes.Equal(got[:end], parent.Bytes()[small:]) || len(bytes.Trim(got[end:], "\x00")) > 0 {
		t.Error("the parent's segment is not its bytes up to the fork, and zeros")
	}
	for n := pg.SegNo(2); n <= 4; n++ {
		content(t, find(t, segment(2, n), m))
	}
	m.bytes(1, 1)[small-40] ^= 1 // in the record that crosses into segment 2, of either TLI
	if found := find(t, segment(2, 2), m); found.Reason != restore.Damaged {
		t.Errorf("with a bad record at its beginning, the child's first segment is: %v (%s)", found.Kind, found.Reason)
	}
}

func TestChildWithoutAByteIsItsParentUpToTheFork(t *testing.T) {
	parent := writer()
	fill(parent, small.Start(2)+pg.LSN(small/2))
	fork := parent.End()
	m := newMemory("a")
	m.keep(1, parent.Start(), parent.Bytes())
	m.says.History = pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork}}}
	m.says.CommitLSN, m.says.Seals[2] = fork, fork
	got := content(t, find(t, segment(2, 2), m))
	if end := int(fork - small.Start(2)); !bytes.Equal(got[:end], parent.Bytes()[small:]) || len(bytes.Trim(got[end:], "\x00")) > 0 {
		t.Error("it is not the parent's bytes up to the fork, and zeros")
	}
}

func TestHistory(t *testing.T) {
	a, _ := living(t, "a")
	b, _ := living(t, "b")
	for _, m := range []*memory{a, b} {
		m.says.History = pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: m.says.CommitLSN}}}
	}
	a.histories[2] = "this is no history\n"
	b.histories[2] = "1\t0/480000\tno recovery target specified\n"
	req := restore.Request{File: restore.File{TLI: 2, History: true}}
	if got := string(content(t, find(t, req, a, b))); got != b.histories[2] {
		t.Errorf("history is %q", got)
	}
	if found := find(t, req, a); found.Reason != restore.Damaged {
		t.Errorf("%v (%s)", found.Kind, found.Reason)
	}
	delete(a.histories, 2)
	if found := find(t, req, a); found.Reason != restore.NotHeld || !found.Retry {
		t.Errorf("a history that went away: %v (%s)", found.Kind, found.Reason)
	}
}

func TestDamagedErrorTellsWhere(t *testing.T) {
	err := &restore.DamagedError{File: "000000010000000000000002", Err: &pg.RecordError{LSN: 0x200100, Reason: "bad"}}
	var bad *pg.RecordError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "0/200100") {
		t.Error(err)
	}
}
