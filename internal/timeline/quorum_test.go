package timeline_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestReadQuorum has the table of FAILOVER.md, for the node a.
func TestReadQuorum(t *testing.T) {
	for raw, want := range map[string]timeline.Quorum{
		"":                     {Required: 1},
		"b":                    {K: 1, N: 1, Required: 1},
		"ANY 2 (b, c, d)":      {K: 2, N: 3, Required: 1},
		"a":                    {K: 1, N: 1, Synchronous: true, Required: 1},
		"a, b":                 {K: 1, N: 2, Synchronous: true, Required: 2},
		"b, a, c":              {K: 1, N: 3, Synchronous: true, Required: 3},
		"ANY 1 (a)":            {K: 1, N: 1, Synchronous: true, Required: 1},
		"any 1 (A, a, \"a\")":  {K: 1, N: 1, Synchronous: true, Required: 1},
		"ANY 2 (a, b)":         {K: 2, N: 2, Synchronous: true, Required: 1},
		"ANY 1 (a, b)":         {K: 1, N: 2, Synchronous: true, Required: 2},
		"ANY 2 (a, b, c)":      {K: 2, N: 3, Synchronous: true, Required: 2},
		"FIRST 2 (b, a, c, d)": {K: 2, N: 4, Synchronous: true, Required: 3},
		"2 (a, b, c)":          {K: 2, N: 3, Synchronous: true, Required: 2},
		"FIRST 3 (a, b)":       {K: 3, N: 2, Synchronous: true, Required: 1},
		"*":                    {K: 1, Synchronous: true, Unbounded: true, Required: 1},
		"ANY 2 (a, *)":         {K: 2, Synchronous: true, Unbounded: true, Required: 1},
		"ANY 1 (b, *)":         {K: 1, Synchronous: true, Unbounded: true, Required: 1},
	} {
		t.Run(raw, func(t *testing.T) {
			at := time.Unix(1_700_000_000, 0)
			got, err := timeline.ReadQuorum(7, raw, "a", at)
			must(t, err)
			if got.TLI != 7 || got.Raw != raw || got.ReadAt != at {
				t.Errorf("got %+v", got)
			}
			if got.K != want.K || got.N != want.N || got.Synchronous != want.Synchronous ||
				got.Unbounded != want.Unbounded || got.Required != want.Required {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestQuorumNamesAreComparedWithoutCase(t *testing.T) {
	q, err := timeline.ReadQuorum(1, `ANY 1 ("NODE_A", b)`, "node_a", time.Now())
	must(t, err)
	if !q.Synchronous {
		t.Errorf("got %+v", q)
	}
	if text := q.SealableAlone("node_a").Error(); !strings.Contains(text, "on b only") {
		t.Errorf("it should name the other server alone: %s", text)
	}
}

// TestSettingThatIsNotUnderstood: then nobody knows how many have to vouch.
func TestSettingThatIsNotUnderstood(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	err := tl.SetQuorum(t.Context(), reading(tl, "MOST (a, b"))
	if !errors.Is(err, timeline.ErrUnreadableSetting) || !strings.Contains(err.Error(), `"MOST (a, b"`) {
		t.Errorf("got %v", err)
	}
	if q := tl.Quorum(); q.Raw != "MOST (a, b" || q.Synchronous || q.ReadAt.IsZero() {
		t.Errorf("read %+v", q)
	}
	tl = open(t, shutdown(t, tl, fsys))
	if _, err := tl.Seal(t.Context(), false); err == nil || !strings.Contains(err.Error(), `"MOST (a, b"`) {
		t.Errorf("sealed: %v", err)
	}
}

// TestQuorumOfAnother says nothing about our commits: a source that is refused can still be asked for its settings.
func TestQuorumOfAnother(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	follow(t, tl, w.End())
	setQuorum(t, tl, "a")
	now := tl.Quorum()
	r := reading(tl, "ANY 1 (a, b, c)")
	r.SystemID++
	must(t, tl.SetQuorum(t.Context(), r))
	if q := tl.Control().QuorumOf(2); q.Required != 1 {
		t.Errorf("of another cluster: %+v", q)
	}
	r = reading(tl, "ANY 1 (a, b)")
	r.TLI = 1
	must(t, tl.SetQuorum(t.Context(), r))
	if q := tl.Control().QuorumOf(2); q.Required != 1 || tl.Control().QuorumOf(1).Required != 2 {
		t.Errorf("of the TLI that was left: %+v", q)
	}
	if tl.Quorum().Raw != now.Raw {
		t.Errorf("the last reading is %+v", tl.Quorum())
	}
}

// TestQuorumBeforeTheFirstSource is told, and kept once it is known whose it is.
func TestQuorumBeforeTheFirstSource(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	ops := fsys.Ops()
	must(t, tl.SetQuorum(t.Context(), timeline.Reading{SystemID: systemID, TLI: 1, SyncStandbyNames: "a"}))
	if q := tl.Quorum(); q.Raw != "a" || !q.Synchronous || fsys.Ops() != ops {
		t.Errorf("got %+v", q)
	}
}

// TestSealableAlone reads one setting after the other on one TLI: what counts is the strictest.
func TestSealableAlone(t *testing.T) {
	for name, c := range map[string]struct {
		readings []string
		text     string // of the refusal; "" = one node's word is enough
	}{
		"never read":                      {nil, ""},
		"not synchronous":                 {[]string{""}, ""},
		"others only":                     {[]string{"ANY 1 (b, c)"}, ""},
		"this node only":                  {[]string{"a"}, ""},
		"everybody":                       {[]string{"ANY 2 (a, b)"}, ""},
		"one of two":                      {[]string{"a, b"}, `"a, b": 2 of 2 standbys have to vouch for the end, and this node is one; commits may lie on b only`},
		"two of three":                    {[]string{"ANY 2 (a, b, c)"}, `"ANY 2 (a, b, c)": 2 of 3 standbys have to vouch for the end, and this node is one; commits may lie on b, c only`},
		"anybody":                         {[]string{"*"}, `"*": any standby may hold commits`},
		"weaker before":                   {[]string{"a", "ANY 1 (a, b)"}, `"ANY 1 (a, b)": 2 of 2`},
		"stricter before":                 {[]string{"ANY 1 (a, b, c)", "a"}, `"ANY 1 (a, b, c)": 3 of 3 standbys have to vouch for the end, and this node is one; commits may lie on b, c only`},
		"stricter before, empty now":      {[]string{"ANY 1 (a, b)", ""}, `"ANY 1 (a, b)": 2 of 2`},
		"stricter before, not in it now":  {[]string{"ANY 1 (a, b)", "c"}, `commits may lie on b only`},
		"anybody before":                  {[]string{"*", "a"}, `"*": any standby may hold commits`},
		"anybody before, empty now":       {[]string{"*", ""}, `"*": any standby may hold commits`},
		"stricter in between, then again": {[]string{"ANY 1 (a, b)", "ANY 1 (a, b, c)", "ANY 1 (a, b)"}, `"ANY 1 (a, b, c)": 3 of 3`},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := crashfs.New()
			tl := create(t, fsys)
			w := source(1000, start+10_000)
			receive(t, tl, w, w.End())
			for _, raw := range c.readings {
				setQuorum(t, tl, raw)
			}
			now := tl.Quorum()
			if n := len(c.readings); n > 0 && now.Raw != c.readings[n-1] {
				t.Errorf("the last reading is %q, got %+v", c.readings[n-1], now)
			}
			again := open(t, shutdown(t, tl, fsys))
			for when, q := range map[string]timeline.Quorum{"before": now, "after a restart": again.Quorum()} {
				err := q.SealableAlone("a")
				if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: got %v, want %q", when, err, c.text)
				}
			}
		})
	}
}

// TestItIsKeptThatCommitsHaveWaited: to stop is another thing than never to have begun, after a restart and on the next TLI too.
func TestItIsKeptThatCommitsHaveWaited(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	for _, s := range []struct {
		raw    string
		waited bool
	}{{"", false}, {"b", false}, {"a", true}, {"", true}, {"b", true}} {
		setQuorum(t, tl, s.raw)
		if got := tl.Control().HasWaited(); got != s.waited {
			t.Errorf("after %q: %v", s.raw, got)
		}
	}
	follow(t, tl, w.End())
	setQuorum(t, tl, "")
	if !open(t, shutdown(t, tl, fsys)).Control().HasWaited() {
		t.Error("a restart has forgotten it")
	}
}

// TestQuorumIsKeptForEachTLI: what a child's source asks for does not change what its parent's commits need.
func TestQuorumIsKeptForEachTLI(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	setQuorum(t, tl, "ANY 1 (a, b)")
	follow(t, tl, w.End())
	if q := tl.Control().QuorumOf(2); q.Required != 1 || q.Synchronous {
		t.Errorf("TLI 2 begins with %+v", q)
	}
	setQuorum(t, tl, "a")
	c := open(t, shutdown(t, tl, fsys)).Control()
	if q := c.QuorumOf(1); q.Required != 2 || q.Raw != "ANY 1 (a, b)" {
		t.Errorf("TLI 1: %+v", q)
	}
	if q := c.QuorumOf(2); q.Required != 1 || q.Raw != "a" || !q.Synchronous {
		t.Errorf("TLI 2: %+v", q)
	}
}

func TestQuorumThatDidNotChangeSavesNothing(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	setQuorum(t, tl, "ANY 1 (a, b)")
	read := tl.Quorum().ReadAt
	ops := fsys.Ops()
	setQuorum(t, tl, "ANY 1 (a, b)")
	if n := fsys.Ops() - ops; n != 0 {
		t.Errorf("%d operations", n)
	}
	if !tl.Quorum().ReadAt.After(read) {
		t.Error("the time of the reading stands still")
	}
}
