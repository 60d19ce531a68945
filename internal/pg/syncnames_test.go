package pg_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

type syncCase struct {
	setting string
	method  pg.SyncMethod
	k       int
	names   string // joined by spaces
	star    bool
	enough  int
}

// syncCases and settingsRefused are what a server takes for synchronous_standby_names, and what it does not;
// TestServerReadsTheSameWords asks one.
var syncCases = []syncCase{
	{setting: "", enough: 1},
	{setting: "a", method: pg.SyncFirst, k: 1, names: "a", enough: 1},
	{setting: "a, b", method: pg.SyncFirst, k: 1, names: "a b", enough: 2},
	{setting: "ANY 2 (a, b, c)", method: pg.SyncAny, k: 2, names: "a b c", enough: 2},
	{setting: "any 1(a,b,c)", method: pg.SyncAny, k: 1, names: "a b c", enough: 3},
	{setting: "FIRST 3 (a, b, c)", method: pg.SyncFirst, k: 3, names: "a b c", enough: 1},
	{setting: "2 (a, b)", method: pg.SyncFirst, k: 2, names: "a b", enough: 1},
	{setting: "\t \v\f\r2\f(\ra\t)\v", method: pg.SyncFirst, k: 2, names: "a", enough: 1},
	{setting: "a, A, \"a\", b", method: pg.SyncFirst, k: 1, names: "a b", enough: 2},
	{setting: "ANY 2 (Node_1, näher, x$9)", method: pg.SyncAny, k: 2, names: "node_1 näher x$9", enough: 2},
	{setting: "7", method: pg.SyncFirst, k: 1, names: "7", enough: 1},
	{setting: "7, 8", method: pg.SyncFirst, k: 1, names: "7 8", enough: 2},
	{setting: "1 (2, 3)", method: pg.SyncFirst, k: 1, names: "2 3", enough: 2},
	{setting: `"any"`, method: pg.SyncFirst, k: 1, names: "any", enough: 1},
	{setting: `"FIRST", anyone, first_`, method: pg.SyncFirst, k: 1, names: "first anyone first_", enough: 3},
	{setting: `"a-b", "say ""hi"""`, method: pg.SyncFirst, k: 1, names: `a-b say "hi"`, enough: 2},
	{setting: `"2 (x)"`, method: pg.SyncFirst, k: 1, names: "2 (x)", enough: 1},
	{setting: "*", method: pg.SyncFirst, k: 1, star: true, enough: math.MaxInt},
	{setting: `ANY 2 (a, "*")`, method: pg.SyncAny, k: 2, names: "a", star: true, enough: math.MaxInt},
	{setting: "000000000000002 (a)", method: pg.SyncFirst, k: 2, names: "a", enough: 1},
}

var settingsRefused = []string{
	" ", ",", "a,", ",a", "a b", "a-b", "1a", "any", "first, b", "ANY", "ANY 2", "ANY (a)", "ANY a (b)", "2 (a", "2 a)", "2 (a))", "2 ()", "(a)",
	"ANY 2 (any)", "0 (a)", "ANY 0 (a)", "99999999999999999999 (a)", "2147483648 (a)", `"a`, `"a"b"`, `"a" "b"`, "a; b", "'a'", "a.b", "ANY 2 (a) b", "2 2 (a)", "-1 (a)", "* (a)", `"2" (a)`,
}

func settingsRead() []string {
	var settings []string
	for _, c := range syncCases {
		settings = append(settings, c.setting)
	}
	return settings
}

func TestSyncStandbyNames(t *testing.T) {
	for _, c := range syncCases {
		got, err := pg.ParseSyncStandbyNames(c.setting)
		if err != nil {
			t.Errorf("%q: %v", c.setting, err)
			continue
		}
		if got.Method != c.method || got.K != c.k || strings.Join(got.Names, " ") != c.names || got.Star != c.star {
			t.Errorf("%q: %+v", c.setting, got)
		}
		if got.Required() != c.enough || got.Empty() != (c.setting == "") {
			t.Errorf("%q: Required %d, want %d; Empty %t", c.setting, got.Required(), c.enough, got.Empty())
		}
	}
}

func TestSyncStandbyNamesThatPostgreSQLRefuses(t *testing.T) {
	for _, setting := range settingsRefused {
		if got, err := pg.ParseSyncStandbyNames(setting); err == nil {
			t.Errorf("%q: %+v, want an error", setting, got)
		}
	}
}

func TestSyncStandbysContains(t *testing.T) {
	s, err := pg.ParseSyncStandbyNames("ANY 1\n(A,\n b)\n")
	if err != nil {
		t.Fatal(err)
	}
	if !s.Contains("a") || !s.Contains("B") || s.Contains("c") || s.Contains("*") {
		t.Errorf("%+v: Contains is wrong", s)
	}
	if star, err := pg.ParseSyncStandbyNames("*"); err != nil || !star.Contains("whoever") {
		t.Errorf("%+v, %v: does not contain whoever", star, err)
	}
}

func TestQuoteSyncName(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "node_1": "node_1", "x$": "x$", "1": `"1"`, "1a": `"1a"`, "any": `"any"`, "First": `"First"`, "firsts": "firsts",
		"a-b": `"a-b"`, "": `""`, `"`: `""""`, "a b": `"a b"`, "*": `"*"`,
	} {
		if got := pg.QuoteSyncName(name); got != want {
			t.Errorf("QuoteSyncName(%q) = %s, want %s", name, got, want)
		}
	}
}

func FuzzSyncStandbyNames(f *testing.F) {
	for _, seed := range append([]string{"ANY 2 (a, b, c)", `"a""b", *`, "2(1,2)"}, settingsRefused...) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := pg.ParseSyncStandbyNames(text); err == nil {
			checkSyncStandbys(t, text, s)
		}
		quoted, err := pg.ParseSyncStandbyNames("ANY 1 (" + pg.QuoteSyncName(text) + ")")
		if err != nil || !quoted.Contains(text) || quoted.Star != (text == "*") {
			t.Errorf("%q, quoted: %+v, %v", text, quoted, err)
		}
	})
}

func checkSyncStandbys(t *testing.T, text string, s pg.SyncStandbys) {
	t.Helper()
	if s.Empty() != (text == "") || s.Required() < 1 || !s.Empty() && !s.Star && s.N() == 0 {
		t.Errorf("%q: %+v", text, s)
	}
	if sorted := slices.Sorted(slices.Values(s.Names)); len(slices.Compact(sorted)) != s.N() {
		t.Errorf("%q: names %q are not distinct", text, s.Names)
	}
}
