package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestStatus shows the whole status of a new timeline as JSON, and then what is different in others. A script is a timeline's
// life, one step a line:
//
//	receive LSN     WAL arrives, up to that LSN
//	follow LSN      a source of TLI 2 leaves TLI 1 there
//	quorum NAMES    synchronous_standby_names are read
//	source CONNINFO
//	seal, poison, restart, damage, delete (with somebody inside), enter
func TestStatus(t *testing.T) {
	datadriven.RunTest(t, "testdata/status", func(t *testing.T, d *datadriven.TestData) (out string) {
		synctest.Test(t, func(t *testing.T) {
			s := &story{t: t, h: newHome(t), w: source(start + 2*mib)}
			s.k = s.h.start(t)
			create(t, s.k, main1)
			synctest.Wait()
			for line := range strings.Lines(d.Input) {
				word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				s.step(word, rest)
				synctest.Wait()
			}
			if out = s.status(); d.Cmd == "changes" {
				out = changes(t, out)
			}
			for _, leave := range s.inside {
				leave()
			}
			synctest.Wait()
			stop(t, s.k)
		})
		return out
	})
}

type story struct {
	t      *testing.T
	h      *home
	k      *Keeper
	w      *pgtest.Writer
	inside []func()
}

func (s *story) step(word, rest string) {
	t, m := s.t, member(s.t, s.k, main1)
	switch word {
	case "receive":
		receive(t, m, s.w, s.lsn(rest))
	case "follow":
		fork := s.lsn(rest)
		h := pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork, Reason: "test"}}}
		must(t, m.Follow(t.Context(), h, []byte("1\t"+fork.String()+"\ttest\n")))
	case "quorum":
		setQuorum(t, m, rest)
	case "source":
		must(t, m.SetSource(t.Context(), rest, false))
	case "seal":
		_, err := m.Seal(t.Context(), false)
		must(t, err)
	case "poison":
		s.poison(m)
	case "restart":
		stop(t, s.k)
		s.k = s.h.start(t)
	case "damage":
		stop(t, s.k)
		s.h.damage(t, main1)
		s.k = s.h.start(t)
	case "enter":
		pass, err := m.Enter(t.Context(), holderRequest)
		must(t, err)
		s.inside = append(s.inside, pass.Leave)
	case "delete":
		go func() { _ = s.k.DeleteTimeline(t.Context(), main1, false) }()
	default:
		t.Fatalf("no such step: %s", word)
	}
}

func (s *story) lsn(text string) pg.LSN {
	lsn, err := pg.ParseLSN(text)
	must(s.t, err)
	return lsn
}

// poison lets a write fail.
func (s *story) poison(m *Member) {
	s.h.disk().Inject(func(op crashfs.Op) error {
		if op.Name == "Datasync" {
			return syscall.EIO
		}
		return nil
	})
	must(s.t, m.PrepareReceive(s.t.Context()))
	at := m.Log().Rewind()
	must(s.t, m.Log().Append(at, s.w.Bytes()[at-start:]))
	if _, err := m.Log().Sync(); !errors.Is(err, wal.ErrPoisoned) {
		s.t.Errorf("not poisoned: %v", err)
	}
	m.Synced()
	s.h.disk().Inject(nil)
}

// status prints it, without what is different in each run.
func (s *story) status() string {
	st := member(s.t, s.k, main1).Status()
	if st.Incarnation != "" {
		st.Incarnation = "(a UUID)"
	}
	st.Reason = strings.ReplaceAll(st.Reason, s.h.dir, "DATA")
	st.Source.Error = strings.ReplaceAll(st.Source.Error, s.h.dir, "DATA")
	for i := range st.Diverged {
		st.Diverged[i].Path = strings.ReplaceAll(st.Diverged[i].Path, s.h.dir, "DATA")
	}
	st.Manager.Iterations, st.Manager.NoopIterations, st.Manager.LastReason = 0, 0, ""
	b, err := json.MarshalIndent(st, "", "  ")
	must(s.t, err)
	return string(b) + "\n"
}

// changes lists what is different from the status of a new timeline, which is the first in the file.
func changes(t *testing.T, status string) string {
	t.Helper()
	file, err := os.ReadFile("testdata/status")
	must(t, err)
	_, first, _ := strings.Cut(string(file), "----\n")
	first, _, _ = strings.Cut(first, "\n\n")
	before, now := flat(t, first), flat(t, status)
	var out strings.Builder
	all := maps.Clone(before)
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if value, there := now[key]; !there {
			fmt.Fprintf(&out, "%s is gone\n", key)
		} else if value != before[key] {
			fmt.Fprintf(&out, "%s: %s\n", key, value)
		}
	}
	return out.String()
}

// flat is JSON with a path for each value.
func flat(t *testing.T, text string) map[string]string {
	t.Helper()
	var v any
	must(t, json.Unmarshal([]byte(text), &v))
	all := map[string]string{}
	flatten(all, "", v)
	return all
}

func flatten(all map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			flatten(all, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		for i, value := range v {
			flatten(all, fmt.Sprintf("%s[%d]", path, i), value)
		}
	default:
		b, _ := json.Marshal(v) // was JSON
		all[path] = string(b)
	}
}
