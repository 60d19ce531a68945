package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// following lets a node back up there, and follow at once.
func following(dir string) func(*Config) {
	return func(c *Config) {
		with(dir)(c)
		c.Store.FollowInterval, c.Retain = 10*time.Millisecond, 1<<30
	}
}

func setMode(t *testing.T, k *Keeper, m timeline.Mode) {
	t.Helper()
	must(t, k.SetMode(t.Context(), "acme", m, false))
}

// wantAll holds what is on the node and in object storage, together, against the source: nothing up to an LSN may be missing.
func wantAll(t *testing.T, k *Keeper, dir string, w *pgtest.Writer, end pg.LSN) {
	t.Helper()
	store, id := look(t, dir)
	stored, l := store.Timeline("acme", "main", id), member(t, k, main1).Log()
	for n := seg.SegNo(start); seg.Start(n) < end; n++ {
		from := seg.Start(n) - start
		want, found := w.Bytes()[from:min(from+mib, end-start)], false
		if l != nil {
			if r, err := l.OpenSegment(1, n); err == nil {
				found = begins(t, r, want)
			}
		}
		if r, err := stored.OpenSegment(t.Context(), 1, n); err == nil {
			found = begins(t, r, want) || found
		}
		if !found {
			t.Errorf("segment %d is nowhere", n)
		}
	}
}

// begins reports whether a segment begins with these bytes, and closes it.
func begins(t *testing.T, r interface {
	io.ReaderAt
	io.Closer
}, want []byte) bool {
	t.Helper()
	b := make([]byte, len(want))
	n, err := r.ReadAt(b, 0)
	if !errors.Is(err, io.EOF) {
		must(t, err)
	}
	must(t, r.Close())
	return bytes.Equal(b[:n], want)
}

func TestEveryChangeOfModeHasItsSteps(t *testing.T) {
	for _, from := range timeline.Modes() {
		for _, to := range timeline.Modes() {
			steps, there := modeChanges[from][to]
			if there == (from == to) {
				t.Errorf("from %s to %s: %v", from, to, there)
			}
			if there && len(behindMark(append(steps[:len(steps):len(steps)], step{name: "last"}))) == 0 {
				t.Errorf("from %s to %s there is no mark", from, to)
			}
		}
	}
}

// TestDetachedTimelineIsInObjectStorageAlone, and is attached again from there: on this node, after a restart, and on another
// one whose disk is empty.
func TestDetachedTimelineIsInObjectStorageAlone(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	life := m.Control().Incarnation
	setMode(t, k, timeline.ModeDetached)
	setMode(t, k, timeline.ModeDetached) // twice is fine

	check := func(k *Keeper) {
		t.Helper()
		m := member(t, k, main1)
		if left := h.entries(t, "tenants", "acme", "timelines", "main", "wal"); len(left) != 0 {
			t.Errorf("on its disk are %q", left)
		}
		if s := m.Status(); s.State != "stopped" || !strings.Contains(s.Reason, "sluice tenant mode acme attached") {
			t.Errorf("it is %s: %s", s.State, s.Reason)
		}
		if info, err := k.Tenant("acme"); err != nil || info.Mode != timeline.ModeDetached || info.Next != "" || info.Reason == nil {
			t.Errorf("the tenant is %+v, %v", info, err)
		}
		if _, err := k.OpenWAL(t.Context(), main1, WALRequest{File: segment1}); !errors.Is(err, ErrDetached) {
			t.Errorf("a file: %v", err)
		}
		if err := k.CreateTimeline(t.Context(), timeline.ID{Tenant: "acme", Name: "new"}, "", false); !errors.Is(err, ErrDetached) {
			t.Errorf("a creation: %v", err)
		}
	}
	check(k)
	stop(t, k)
	k = h.start(t, with(dir))
	check(k)

	other := newHome(t).start(t, with(dir), onNode("b"))
	for _, k := range []*Keeper{k, other} {
		setMode(t, k, timeline.ModeAttached)
		m := member(t, k, main1)
		if c := m.Control(); state(m) != timeline.StateRunning || c.Incarnation != life || c.SystemID != systemID || m.Held().Stored.LSN != start+2*mib {
			t.Errorf("it is %s, %+v", state(m), c)
		}
		f, err := k.OpenWAL(t.Context(), main1, WALRequest{File: segment1})
		must(t, err)
		b, err := io.ReadAll(f.Body)
		must(t, errors.Join(err, f.Close()))
		if !bytes.Equal(b, w.Bytes()[:mib]) {
			t.Error("what is handed out is not what was received")
		}
	}
	must(t, k.DeleteTenant(t.Context(), "acme", false))
	if err := newHome(t).start(t, with(dir), onNode("c")).SetMode(t.Context(), "acme", timeline.ModeAttached, false); err != nil {
		t.Errorf("a tenant whose timelines were deleted: %v", err) // it is there, and empty
	}
	if err := other.SetMode(t.Context(), "nobody", timeline.ModeAttached, false); !errors.Is(err, ErrNoTenant) {
		t.Errorf("a tenant that nobody ever had: %v", err)
	}
}

// TestDetachWithoutObjectStorageKeepsTheFiles: there is no other copy.
func TestDetachWithoutObjectStorageKeepsTheFiles(t *testing.T) {
	k := newHome(t).start(t)
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	setMode(t, k, timeline.ModeDetached)
	setMode(t, k, timeline.ModeAttached)
	if l := member(t, k, main1).Log(); l == nil || l.Flushed().LSN != w.End() {
		t.Errorf("it holds %v", l)
	}
	if member(t, k, main1).Qualified() {
		t.Error("it was away, and its word counts")
	}
}

// TestDetachIsRefusedWhileCommitsWait, as far as anybody knows; an operator's word is enough.
func TestDetachIsRefusedWhileCommitsWait(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	must(t, k.CreateTimeline(t.Context(), main1, "host=127.0.0.1 port=1 user=x", false))
	m := member(t, k, main1)
	setQuorum(t, m, "ANY 1 (a, b)")
	for _, to := range []timeline.Mode{timeline.ModeDetached, timeline.ModeSecondary} {
		if err := k.SetMode(t.Context(), "acme", to, false); !errors.Is(err, ErrWaitedFor) || !strings.Contains(err.Error(), "ANY 1 (a, b)") {
			t.Errorf("%s: %v", to, err)
		}
	}
	if m != member(t, k, main1) || state(m) != timeline.StateRunning || m.Operation().Name != "" {
		t.Errorf("it is %s, %+v", state(m), m.Operation())
	}
	must(t, k.SetMode(t.Context(), "acme", timeline.ModeDetached, true))
}

// TestChangeThatFailsBeforeTheMarkLeavesTheTenantAsItWas, receiving.
func TestChangeThatFailsBeforeTheMarkLeavesTheTenantAsItWas(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	c := &change{k: k, id: "acme", to: timeline.ModeDetached, tenant: k.tenant("acme")}
	failing := step{"test", func(*change, context.Context) error { return errTest }}
	if err := c.run(t.Context(), []step{stepDrain, failing}); !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
	if m.Snapshot().Draining || m != member(t, k, main1) {
		t.Error("it still drains")
	}
	if err := c.run(t.Context(), []step{stepDrain, stepStop, failing}); !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
	m = member(t, k, main1)
	if info, err := k.Tenant("acme"); err != nil || info.Mode != timeline.ModeAttached || state(m) != timeline.StateRunning || info.Operation.Name != "" {
		t.Errorf("the tenant is %+v (%v), the timeline %s", info, err, state(m))
	}
	if l := m.Log(); l == nil || l.Flushed().LSN != w.End() {
		t.Error("its WAL is gone")
	}
}

// TestSecondaryFollows (W1): a warm copy has what is whole in object storage, streams from nobody, and goes on from there once
// it is attached.
func TestSecondaryFollows(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 3*mib + 1000)
	receive(t, m, w, start+mib+5000)
	backedUp(t, m, start+mib, 0)

	second := newHome(t).start(t, following(dir), onNode("b"))
	setMode(t, second, timeline.ModeSecondary)
	warm := member(t, second, main1)
	copied := func(to pg.LSN) {
		t.Helper()
		waitUntil(t, 20*time.Second, "the copy is there", func() bool { return warm.Log() != nil && warm.Log().Flushed().LSN == to })
	}
	copied(start + mib)
	receive(t, m, w, w.End())
	backedUp(t, m, start+3*mib, w.End())
	copied(start + 3*mib)
	if warm.Qualified() {
		t.Error("a warm copy says that something does not exist")
	}
	if _, err := second.Seal(t.Context(), main1, true); !errors.Is(err, ErrSecondary) {
		t.Errorf("a warm copy sealed: %v", err)
	}
	if got := warm.Control().Incarnation; got != m.Control().Incarnation {
		t.Errorf("it is another life, %s", got)
	}
	for n := seg.SegNo(start); n < 4; n++ {
		r, err := warm.Log().OpenSegment(1, n)
		must(t, err)
		if from := seg.Start(n) - start; !begins(t, r, w.Bytes()[from:from+mib]) {
			t.Errorf("segment %d is not what was received", n)
		}
	}
	if tasks := warm.Status().Tasks; !strings.Contains(fmt.Sprint(tasks), "{follow running secondary") || strings.Contains(fmt.Sprint(tasks), "{receive running") {
		t.Errorf("its tasks: %+v", tasks)
	}

	setMode(t, k, timeline.ModeDetached)
	setMode(t, second, timeline.ModeAttached)
	warm = member(t, second, main1)
	if at := warm.Log().Flushed().LSN; at != start+3*mib || state(warm) != timeline.StateRunning {
		t.Errorf("attached, it is %s, at %s", state(warm), at)
	}
	receive(t, warm, w, w.End())
	if at := warm.Log().Flushed().LSN; at != w.End() {
		t.Errorf("it went on to %s", at)
	}
}

// TestSecondaryFindsNewTimelines that came to object storage after its life began, and deletes none (a deletion is for all nodes).
func TestSecondaryFindsNewTimelines(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	w := source(start + mib + 1000)
	receive(t, create(t, k, main1), w, w.End())
	backedUp(t, member(t, k, main1), start+mib, 0)
	h := newHome(t)
	second := h.start(t, following(dir), onNode("b"))
	setMode(t, second, timeline.ModeSecondary)

	late := timeline.ID{Tenant: "acme", Name: "late"}
	receive(t, create(t, k, late), w, w.End())
	backedUp(t, member(t, k, late), start+mib, 0)
	waitUntil(t, 20*time.Second, "the copy is there", func() bool {
		m, err := second.Member(late)
		return err == nil && m.Log() != nil && m.Log().Flushed().LSN == start+mib
	})

	for _, err := range []error{second.DeleteTimeline(t.Context(), late, false), second.DeleteTenant(t.Context(), "acme", false)} {
		if !errors.Is(err, ErrSecondary) || !strings.Contains(err.Error(), "sluice tenant mode acme detached") {
			t.Errorf("a deletion on the node of a warm copy: %v", err)
		}
	}
	must(t, k.DeleteTimeline(t.Context(), late, false))
	setMode(t, second, timeline.ModeDetached)
	must(t, second.DeleteTimeline(t.Context(), late, false)) // its life has ended elsewhere; this is what is left of it here
	setMode(t, second, timeline.ModeSecondary)
	time.Sleep(20 * lookEvery * time.Millisecond)
	if _, err := second.Member(late); !errors.Is(err, ErrNoTimeline) {
		t.Errorf("what was deleted is back: %v", err)
	}
}

// TestSecondaryFollowsAPromotion, with the fork inside a segment.
func TestSecondaryFollowsAPromotion(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 5000)
	receive(t, m, w, w.End())
	fork, child := w.End(), w.Fork(2)
	for child.End() < start+3*mib+1000 {
		child.Record(1000)
	}
	raw := fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", fork)
	h, err := pg.ParseHistory(2, raw)
	must(t, err)
	must(t, m.PrepareReceive(t.Context()))
	must(t, m.Follow(t.Context(), h, raw))
	receive(t, m, child, child.End())
	backedUp(t, m, start+3*mib, 0)

	second := newHome(t).start(t, following(dir), onNode("b"))
	setMode(t, second, timeline.ModeSecondary)
	warm := member(t, second, main1)
	waitUntil(t, 20*time.Second, "the copy is there", func() bool {
		return warm.Log() != nil && warm.Log().Flushed() == pg.Position{TLI: 2, LSN: start + 3*mib}
	})
	if _, err := warm.Log().History(2); err != nil {
		t.Error(err)
	}
	for n := seg.SegNo(start) + 1; n < 4; n++ {
		r, err := warm.Log().OpenSegment(2, n)
		must(t, err)
		if from := seg.Start(n) - start; !begins(t, r, child.Bytes()[from:from+mib]) {
			t.Errorf("segment %d is not what was received", n)
		}
	}
	if d := warm.Log().Stats().Diverged; len(d) != 0 {
		t.Errorf("diverged: %+v", d)
	}
}

// TestAttachWaitsForDownloads (W3): a life in another mode begins when the last of the old one has left the tenant's gate. A
// download that was cancelled is the last (G15): four more segments would be there.
func TestAttachWaitsForDownloads(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 5*mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+5*mib, 0)

	h := newHome(t)
	second := h.start(t, following(dir), onNode("b"))
	writing, goOn := make(chan struct{}), make(chan struct{})
	h.disk().Inject(func(op crashfs.Op) error {
		if strings.HasPrefix(op.Name, "Write") && strings.Contains(op.Path, "/wal/0000000100000000") {
			select {
			case writing <- struct{}{}:
			default:
			}
			<-goOn
		}
		return nil
	})
	setMode(t, second, timeline.ModeSecondary)
	<-writing
	old := second.tenant("acme")
	attached := make(chan error, 1)
	go func() { attached <- second.SetMode(t.Context(), "acme", timeline.ModeAttached, false) }()
	<-member(t, second, main1).Gate().Closing()
	if info, err := second.Tenant("acme"); err != nil || info.Operation.Name != opAttach || info.Operation.Step != "stop" || info.Mode != timeline.ModeSecondary {
		t.Errorf("the tenant is %+v, %v", info, err)
	}
	if op := member(t, second, main1).Status().Operation; op == nil || op.Name != opAttach || op.Step != "stop" {
		t.Errorf("the timeline's operation: %+v", op)
	}
	if held := second.NameHolders(tenantKey("acme"), old.Gate().Holders()); !strings.Contains(fmt.Sprint(held), "follow of main/"+segment1) {
		t.Errorf("inside the tenant's gate: %+v", held)
	}
	select {
	case err := <-attached:
		t.Fatalf("attached, and a download writes: %v", err)
	default:
	}
	close(goOn)
	must(t, <-attached)
	if info, err := second.Tenant("acme"); err != nil || info.Mode != timeline.ModeAttached || second.tenant("acme") == old {
		t.Errorf("the tenant is %+v, %v", info, err)
	}
	if at := member(t, second, main1).Log().Flushed().LSN; at > start+mib {
		t.Errorf("it went on to copy up to %s", at)
	}
}

// TestModesChangedAtRandom (W2): no error, no leak, no byte lost; with restarts, and writers that do not wait.
func TestModesChangedAtRandom(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			dir := objects(t)
			h := newHome(t)
			k := h.start(t, following(dir))
			w, at := source(start+8*mib), start
			create(t, k, main1)
			for range 25 {
				m := member(t, k, main1)
				switch n := r.IntN(10); {
				case n < 4 && m.Mode() == timeline.ModeAttached:
					at = goOn(t, m, w, min(w.End(), max(at, start)+pg.LSN(r.IntN(mib))))
				case n == 4:
					stop(t, k)
					k = h.start(t, following(dir))
				default:
					setMode(t, k, timeline.Modes()[r.IntN(3)])
				}
			}
			setMode(t, k, timeline.ModeAttached)
			at = goOn(t, member(t, k, main1), w, min(w.End(), max(at, start)+mib))
			wantAll(t, k, dir, w, at)
			if left := h.timelines(t); len(left) != 1 {
				t.Errorf("there are %q", left)
			}
		})
	}
}

// goOn receives as a receiver does from a source that has everything: from where the timeline is, or where object storage ends.
func goOn(t *testing.T, m *Member, w *pgtest.Writer, to pg.LSN) pg.LSN {
	t.Helper()
	end, err := m.BeginReceive()
	must(t, err)
	defer end()
	must(t, m.meet(t.Context()))
	must(t, m.PrepareReceive(t.Context()))
	if m.HoldsNothing() {
		from := max(m.Held().Stored.LSN, start)
		must(t, m.Adopt(t.Context(), timeline.Adoption{
			SystemID: systemID, SegmentSize: seg, Start: pg.Position{TLI: 1, LSN: from}, SourceFlush: to,
		}))
	}
	to = max(to, m.Log().Position().LSN)
	from := m.Log().Rewind()
	must(t, m.Log().Append(from, w.Bytes()[from-start:to-start]))
	_, err = m.Log().Sync()
	must(t, err)
	m.Synced()
	return to
}

// TestModeThatCannotBeReadDoesNothing, until somebody sets it.
func TestModeThatCannotBeReadDoesNothing(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	m := create(t, k, main1)
	w := source(start + 1000)
	receive(t, m, w, w.End())
	stop(t, k)
	for _, bad := range []string{"hello", `{"mode":"sideways"}`, `{"mode":"attached","next":"x"}`} {
		must(t, wal.WriteFileAtomic(h.fs, filepath.Join(h.dir, "tenants", "acme", tenantFile), []byte(bad)))
		k = h.start(t)
		if info, err := k.Tenant("acme"); err != nil || info.Reason == nil || state(member(t, k, main1)) != timeline.StateStopped {
			t.Errorf("%s: the tenant is %+v, %v", bad, info, err)
		}
		stop(t, k)
	}
	k = h.start(t)
	setMode(t, k, timeline.ModeAttached)
	if l := member(t, k, main1).Log(); l == nil || l.Flushed().LSN != w.End() {
		t.Error("its WAL is gone")
	}
}
