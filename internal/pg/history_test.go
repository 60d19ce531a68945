package pg_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// written is a history as PostgreSQL 15 wrote it after three promotions, comment added.
const written = "1\t0/3000148\tno recovery target specified\n\n" +
	"# kept by hand\n" +
	"2\t0/5000000\tbefore 2026-11-22 04:30:00.123456+00\n\n" +
	"4\t1/20\tat restore point \"a b\"\n"

func TestHistory(t *testing.T) {
	h, err := pg.ParseHistory(5, []byte(written))
	if err != nil {
		t.Fatal(err)
	}
	want := []pg.Fork{
		{TLI: 1, LSN: 0x3000148, Reason: "no recovery target specified"},
		{TLI: 2, LSN: 0x5000000, Reason: "before 2026-11-22 04:30:00.123456+00"},
		{TLI: 4, LSN: 0x1_00000020, Reason: `at restore point "a b"`},
	}
	if h.TLI != 5 || !slices.Equal(h.Forks, want) {
		t.Errorf("got %+v", h)
	}
	if parent, ok := h.Parent(); !ok || parent != want[2] {
		t.Errorf("Parent: %+v, %t", parent, ok)
	}
	for lsn, tli := range map[pg.LSN]pg.TLI{
		0: 1, 0x3000147: 1, 0x3000148: 2, 0x4FFFFFF: 2, 0x5000000: 4, 0x1_0000001F: 4, 0x1_00000020: 5, 1<<64 - 1: 5,
	} {
		if got := h.At(lsn); got != tli {
			t.Errorf("At(%s) = %d, want %d", lsn, got, tli)
		}
	}
}

func TestHistoryContains(t *testing.T) {
	h := parseHistory(t, 5, written)
	for _, c := range []struct {
		tli  pg.TLI
		lsn  pg.LSN
		want bool
	}{
		{1, 0, true}, {1, 0x3000148, true}, {1, 0x3000149, false},
		{2, 0x5000000, true}, {2, 0x5000001, false},
		{3, 0x4000000, false}, // TLI 3 was another server's
		{4, 0x1_00000020, true},
		{5, 1<<64 - 1, true}, // how far TLI 5 goes, its history does not say
		{6, 0x1_00000020, false},
	} {
		if p := (pg.Position{TLI: c.tli, LSN: c.lsn}); h.Contains(p) != c.want {
			t.Errorf("Contains(%s) = %t", p, !c.want)
		}
	}
}

// TestHistoryLeavesTLIBeforeItBegan is what PostgreSQL writes when recovery_target_timeline is 2 and recovery_target_lsn below
// 2's beginning: TLI 3 then has TLI 1's bytes up to 0/2000028 and none of TLI 2's.
func TestHistoryLeavesTLIBeforeItBegan(t *testing.T) {
	h := parseHistory(t, 3, "1\t0/3000148\tfirst\n\n2\t0/2000028\tbefore LSN 0/2000100\n")
	if end, ok := h.End(1); !ok || end != 0x2000028 {
		t.Errorf("TLI 1 ends at %s, %t", end, ok)
	}
	if h.Contains(pg.Position{TLI: 1, LSN: 0x2500000}) || h.Contains(pg.Position{TLI: 2, LSN: 0x3000150}) {
		t.Error("the history contains bytes that a server with it does not have")
	}
	if h.At(0x2000027) != 1 || h.At(0x2000028) != 3 || h.At(0x3000150) != 3 {
		t.Errorf("At: %d, %d, %d", h.At(0x2000027), h.At(0x2000028), h.At(0x3000150))
	}
}

func TestHistoryOfTheFirstTLI(t *testing.T) {
	h := parseHistory(t, 1, "")
	if _, ok := h.Parent(); ok || h.At(0x1000000) != 1 || !h.Contains(pg.Position{TLI: 1, LSN: 7}) {
		t.Errorf("got %+v", h)
	}
	if _, ok := h.End(1); ok {
		t.Error("the newest TLI has an end")
	}
}

func TestHistoryThatPostgreSQLRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"one\t0/1000\tx\n":            "expected a numeric TLI",
		"-1\t0/1000\tx\n":             "expected a numeric TLI",
		"4294967296\t0/1000\n":        "expected a numeric TLI",
		"1\n":                         "expected a switch point",
		"1\tx\n":                      "expected a switch point",
		"1\t0/1000\n1\t0/2000\n":      "TLIs must increase",
		"2\t0/1000\n1\t0/2000\n":      "TLIs must increase",
		"1\t0/1000\n5\t0/2000\n":      "not older",
		"1\t0/1000\n\n7\t0/2000\tx\n": "not older",
	} {
		if h, err := pg.ParseHistory(5, []byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %+v, %v; want an error with %q", text, h, err, why)
		}
	}
	if _, err := pg.ParseHistory(0, nil); err == nil {
		t.Error("TLI 0 has a history")
	}
}

func parseHistory(t *testing.T, tli pg.TLI, text string) pg.History {
	t.Helper()
	h, err := pg.ParseHistory(tli, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func FuzzHistory(f *testing.F) {
	f.Add(uint32(5), written, uint64(0x4000000))
	f.Add(uint32(1), "", uint64(0))
	f.Add(uint32(3), "1\t0/30\n2\t0/20", uint64(0x25))
	f.Fuzz(func(t *testing.T, tli uint32, text string, at uint64) {
		h, err := pg.ParseHistory(pg.TLI(tli), []byte(text))
		if err != nil {
			return
		}
		holder := h.At(pg.LSN(at))
		if end, left := h.End(holder); left && pg.LSN(at) >= end {
			t.Errorf("%+v: TLI %d holds the byte at %s, but the history left it at %s", h, holder, pg.LSN(at), end)
		}
		for _, fork := range h.Forks {
			if end, ok := h.End(fork.TLI); !ok || end > fork.LSN {
				t.Errorf("%+v: TLI %d ends at %s, %t", h, fork.TLI, end, ok)
			}
		}
	})
}
