package durability

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var errBroken = errors.New("connection lost")

// The checker has to see each way in which rows can be wrong: a checker that
// cannot fail proves nothing.
func TestLedgerSeesEachKindOfLoss(t *testing.T) {
	cases := map[string]struct {
		err    error                  // how the transaction was answered
		before func(map[int64]string) // what an earlier failover left
		after  func(map[int64]string) // what this one did
		want   func(verdict) []int64
	}{
		"acknowledged and absent":  {nil, nil, remove(1, 2, 3), func(v verdict) []int64 { return v.Lost }},
		"acknowledged, one absent": {nil, nil, remove(2), func(v verdict) []int64 { return v.Lost }},
		"another payload":          {nil, nil, spoil(3), func(v verdict) []int64 { return v.Corrupt }},
		"half of an unknown one":   {errBroken, nil, remove(1), func(v verdict) []int64 { return v.Torn }},
		"gone and back":            {errBroken, remove(1, 2, 3), nil, func(v verdict) []int64 { return v.Phantoms }},
		"kept and gone":            {errBroken, nil, remove(1, 2, 3), func(v verdict) []int64 { return v.Vanished }},
		"never sent":               {nil, nil, add(99), func(v verdict) []int64 { return v.Phantoms }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLedger(1)
			l.end(l.begin(3), c.err)
			if name != "half of an unknown one" {
				l.settle(rowsAfter(l, c.before))
			}
			v := l.settle(rowsAfter(l, c.after))
			if v.err() == nil || len(c.want(v)) == 0 {
				t.Errorf("not seen: %+v", v)
			}
		})
	}
}

func TestLedgerAcceptsWhatIsRight(t *testing.T) {
	l := newLedger(1)
	l.end(l.begin(3), nil)
	l.end(l.begin(2), errBroken) // will survive
	l.end(l.begin(2), errBroken) // will not
	l.begin(1)                   // in flight, will not
	found := rowsAfter(l, remove(6, 7, 8))
	for range 2 {
		if v := l.settle(found); v.err() != nil || v.Acked != 3 {
			t.Fatalf("verdict %+v", v)
		}
	}
}

func TestLedgerSeesAnAcknowledgementAfterTheSeal(t *testing.T) {
	l := newLedger(1)
	b := l.begin(2)
	l.settle(nil)
	l.end(b, nil)
	if v := l.settle(nil); v.LateAcks != 2 || v.err() == nil {
		t.Errorf("verdict %+v", v)
	}
}

// What was acknowledged too early to be lost stays lost.
func TestLedgerGivesUpOnlyTheNewest(t *testing.T) {
	l := newLedger(1)
	early, late := l.begin(1), l.begin(2)
	l.end(early, nil)
	l.end(late, nil)
	from := time.Now()
	early.at, late.at = from.Add(-time.Second), from.Add(time.Second)
	missing := l.giveUp(nil, from)
	if v := l.settle(nil); missing.rows != 3 || !missing.oldest.Equal(early.at) || !slices.Equal(v.Lost, []int64{1}) {
		t.Errorf("missing %+v, verdict %+v", missing, v)
	}
	if v := l.settle(rowsAfter(l, remove(1))); len(v.Phantoms) != 2 {
		t.Errorf("given up, and back: verdict %+v", v)
	}
}

func TestLedgerSeesDeletedRowsComeBack(t *testing.T) {
	l := newLedger(1)
	l.end(l.begin(2), nil)
	l.end(l.begin(1), nil)
	l.forget(l.old(1))
	if v := l.settle(rowsAfter(l, remove(1, 2))); v.err() != nil || v.Acked != 1 {
		t.Errorf("deleted, and gone: verdict %+v", v)
	}
	if v := l.settle(rowsAfter(l, nil)); len(v.Phantoms) != 2 {
		t.Errorf("deleted, and back: verdict %+v", v)
	}
}

// The judge of forks has to see a record above the seal's end, and must not take
// a reader that finds nothing to read for one that finds no record.
func TestJudgeSeesARecordAboveTheSeal(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start(t.Context(), pgserver.Options{Dir: filepath.Join(rig.TempDir(t), "pg"), SegmentSizeMiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Kill() }()
	before := currentLSN(t, s)
	if err := s.Exec(t.Context(), "SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000))"); err != nil {
		t.Fatal(err)
	}
	after := currentLSN(t, s)
	for name, c := range map[string]struct {
		dir  string
		to   pg.LSN
		fine bool
	}{
		"a whole record":     {s.Dir(), after, false},
		"a part of a record": {s.Dir(), before + 50_000, true},
		"no WAL to read":     {t.TempDir(), before + 50_000, false},
	} {
		err := noRecordEndsIn(t.Context(), s.Installation(), c.dir, 1, before, c.to)
		if (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func currentLSN(t *testing.T, s *pgserver.Server) pg.LSN {
	t.Helper()
	text, err := s.Value(t.Context(), "SELECT pg_current_wal_insert_lsn()")
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// rowsAfter is a table with all rows of the ledger, changed by change.
func rowsAfter(l *ledger, change func(map[int64]string)) map[int64]string {
	rows := map[int64]string{}
	for id := int64(1); id < l.nextID; id++ {
		rows[id] = l.payload(id)
	}
	if change != nil {
		change(rows)
	}
	return rows
}

func remove(ids ...int64) func(map[int64]string) {
	return func(rows map[int64]string) {
		maps.DeleteFunc(rows, func(id int64, _ string) bool { return slices.Contains(ids, id) })
	}
}

func spoil(id int64) func(map[int64]string) {
	return func(rows map[int64]string) { rows[id] = "x" + rows[id][1:] }
}

func add(id int64) func(map[int64]string) {
	return func(rows map[int64]string) { rows[id] = "" }
}
