package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

const (
	segment1 = "000000010000000000000001"
	segment2 = "000000010000000000000002"
	segment3 = "000000010000000000000003"
)

// keeping is a node with a timeline that holds a segment and a half.
func keeping(t *testing.T) (*home, *Keeper, *Member, *pgtest.Writer) {
	t.Helper()
	h := newHome(t)
	k := h.start(t)
	m := create(t, k, main1)
	w := source(start + mib + mib/2)
	receive(t, m, w, w.End())
	setQuorum(t, m, "a")
	return h, k, m, w
}

func open(t *testing.T, k *Keeper, r WALRequest) *WALFile {
	t.Helper()
	f, err := k.OpenWAL(t.Context(), main1, r)
	must(t, err)
	return f
}

// content reads a file that must be there, and closes it.
func content(t *testing.T, k *Keeper, name string) []byte {
	t.Helper()
	f := open(t, k, WALRequest{File: name})
	if f.Kind != restore.Present {
		t.Fatalf("%s: %s (%s) %s", name, f.Kind, f.Reason, f.Text)
	}
	b, err := io.ReadAll(f.Body)
	must(t, errors.Join(err, f.Close()))
	return b
}

// TestOpenWALAnswers: here it is, it does not exist, I could not find out; and never a word too much.
func TestOpenWALAnswers(t *testing.T) {
	_, k, m, w := keeping(t)
	tail := append(bytes.Clone(w.Bytes()[mib:]), make([]byte, 2*mib-len(w.Bytes()))...)
	ask := func(name string, r WALRequest, want restore.Kind, reason restore.Reason) {
		t.Helper()
		r.File = name
		f := open(t, k, r)
		if f.Kind != want || f.Reason != reason || (f.Kind == restore.Present) != (f.Body != nil) || want != restore.Present && f.Text == "" {
			t.Errorf("%s %+v: got %s (%s) %s, want %s (%s)", name, r, f.Kind, f.Reason, f.Text, want, reason)
		}
		must(t, f.Close())
	}
	ask(segment1, WALRequest{}, restore.Present, "")
	ask(segment2, WALRequest{}, restore.Unknown, restore.Unsealed)
	ask(segment2, WALRequest{Copy: true}, restore.Absent, "")
	ask(segment3, WALRequest{}, restore.Unknown, restore.Unsealed)
	ask("000000010000000000000000", WALRequest{}, restore.Unknown, restore.BelowStart)
	ask("00000002.history", WALRequest{}, restore.Absent, "")
	ask("000000020000000000000002", WALRequest{}, restore.Absent, "")
	ask("../control", WALRequest{}, restore.Unknown, restore.Refused)
	ask(segment1+".partial", WALRequest{}, restore.Unknown, restore.Refused)
	if got := content(t, k, segment1); !bytes.Equal(got, w.Bytes()[:mib]) {
		t.Error("the whole segment is not the source's")
	}
	_, err := m.Seal(t.Context(), false)
	must(t, err)
	ask(segment3, WALRequest{}, restore.Absent, "")
	if got := content(t, k, segment2); !bytes.Equal(got, tail) {
		t.Error("the tail is not the source's, with zeros above the end")
	}
	if _, err := k.OpenWAL(t.Context(), timeline.ID{Tenant: "acme", Name: "other"}, WALRequest{File: segment1}); !errors.Is(err, ErrNoTimeline) {
		t.Errorf("of another timeline: %v", err)
	}
}

func TestOpenWALOfATimelineThatHoldsNothing(t *testing.T) {
	k := newHome(t).start(t)
	create(t, k, main1)
	for _, name := range []string{segment1, "00000002.history"} {
		f := open(t, k, WALRequest{File: name})
		if f.Kind != restore.Unknown || !f.Retry || f.Reason != restore.NotHeld {
			t.Errorf("%s: %+v", name, f.Decision)
		}
		must(t, f.Close())
	}
}

// TestTailIsMarkedBeforeItGoesOut: when the first byte is there to be read, no crash lets the seal be taken back any more.
func TestTailIsMarkedBeforeItGoesOut(t *testing.T) {
	h, k, m, _ := keeping(t)
	_, err := m.Seal(t.Context(), false)
	must(t, err)
	durable := func() bool {
		disk := h.disk().Restart(crashfs.Survivors{})
		c, err := timeline.LoadControl(disk, timeline.Dir(h.dir, main1))
		must(t, err)
		s, _ := c.SealOf(1)
		return s.TailServed
	}
	f := open(t, k, WALRequest{File: segment1})
	must(t, f.Close())
	if s, _ := m.Control().SealOf(1); s.TailServed {
		t.Error("a whole segment below the commit LSN is no tail")
	}
	h.disk().Inject(func(op crashfs.Op) error {
		if filepath.Base(op.Path) == "control.tmp" {
			return syscall.ENOSPC
		}
		return nil
	})
	if f, err := k.OpenWAL(t.Context(), main1, WALRequest{File: segment2}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without room for the mark: %+v, %v", f, err)
	}
	h.disk().Inject(nil)
	files := h.disk().OpenFiles()
	f = open(t, k, WALRequest{File: segment2})
	defer func() { must(t, f.Close()) }()
	if f.Kind != restore.Present || f.Tail != 1 {
		t.Fatalf("got %+v", f.Decision)
	}
	if n := h.disk().OpenFiles(); n != files+1 {
		t.Errorf("%d files are open, before there were %d", n, files)
	}
	if !durable() { // ends the disk
		t.Error("the mark is not durable")
	}
}

// TestEndOnABorderIsMarkedToo: there no file is tail, and the word that there is no more ends the recovery.
func TestEndOnABorderIsMarkedToo(t *testing.T) {
	k := newHome(t).start(t)
	m := create(t, k, main1)
	w := source(start + mib/2)
	w.RecordTo(start + mib)
	receive(t, m, w, w.End())
	setQuorum(t, m, "a")
	res, err := m.Seal(t.Context(), false)
	if err != nil || res.End != start+mib {
		t.Fatalf("sealed at %s, %v", res.End, err)
	}
	_ = content(t, k, segment1)
	f := open(t, k, WALRequest{File: segment2})
	must(t, f.Close())
	if f.Kind != restore.Absent {
		t.Fatalf("got %+v", f.Decision)
	}
	if _, err := k.Unseal(t.Context(), main1, false); !errors.Is(err, timeline.ErrTailServed) {
		t.Errorf("unseal: %v", err)
	}
}

// TestFileThatIsHandedOutHoldsTheGate until it is closed, and its reader is told to go.
func TestFileThatIsHandedOutHoldsTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k, m, w := keeping(t)
		f, err := k.OpenWAL(timeline.WithClient(t.Context(), "192.0.2.7:40404"), main1, WALRequest{File: segment1})
		must(t, err)
		holders := "[manager wal_download of " + segment1 + " for 192.0.2.7:40404]"
		if inside := fmt.Sprint(m.Status().Gate.Holders); inside != holders {
			t.Errorf("inside are %s, want %s", inside, holders)
		}
		deleted := make(chan error, 1)
		go func() { deleted <- k.DeleteTimeline(t.Context(), main1, false) }()
		synctest.Wait()
		select {
		case <-f.Gone:
		default:
			t.Error("its reader is not told to go")
		}
		if _, err := k.OpenWAL(t.Context(), main1, WALRequest{File: segment1}); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("a newcomer: %v", err)
		}
		if inside := fmt.Sprint(k.NameHolders(main1, m.Gate().Holders())); inside != "[wal_download of "+segment1+" for 192.0.2.7:40404]" {
			t.Errorf("waited for are %s", inside)
		}
		if b, err := io.ReadAll(f.Body); err != nil || !bytes.Equal(b, w.Bytes()[:mib]) {
			t.Errorf("read %d bytes, %v", len(b), err)
		}
		must(t, f.Close())
		must(t, <-deleted)
		stop(t, k)
	})
}

// TestAnswersAreCounted by their kind.
func TestAnswersAreCounted(t *testing.T) {
	h := newHome(t)
	var said []string
	var ends []int64
	k := h.start(t, func(c *Config) {
		c.Events.Fetch = func(ctx context.Context, _ timeline.ID, _ string) (context.Context, func(string, error), func(int64)) {
			return ctx, func(answer string, _ error) { said = append(said, answer) }, func(bytes int64) { ends = append(ends, bytes) }
		}
	})
	m := create(t, k, main1)
	w := source(start + mib + mib/2)
	receive(t, m, w, w.End())
	for _, name := range []string{segment1, segment2, "00000002.history"} {
		f := open(t, k, WALRequest{File: name})
		if f.Body != nil {
			_, err := io.CopyN(io.Discard, f, 1000)
			must(t, err)
		}
		must(t, f.Close())
	}
	_, _ = k.OpenWAL(t.Context(), timeline.ID{Tenant: "acme", Name: "other"}, WALRequest{File: segment1})
	left, leave := context.WithCancel(t.Context())
	leave() // such a client gets no answer, and alerts nobody
	_, _ = k.OpenWAL(left, timeline.ID{Tenant: "acme", Name: "other"}, WALRequest{File: segment1})
	if got := strings.Join(said, " "); got != "file unknown absent unknown" {
		t.Errorf("said %s", got)
	}
	if !slices.Equal(ends, []int64{1000, 0, 0, 0, 0}) {
		t.Errorf("read were %v bytes", ends)
	}
}

// TestOfflineAnswersLikeTheNode: what a dead node's directory holds, without changing it.
func TestOfflineAnswersLikeTheNode(t *testing.T) {
	h, k, m, w := keeping(t)
	_, err := m.Seal(t.Context(), false)
	must(t, err)
	h.crash(k)
	ops := 0
	h.disk().Inject(func(op crashfs.Op) error {
		if op.Mutates {
			ops++
		}
		return nil
	})
	o, err := OpenOffline(h.fs, h.dir, main1)
	must(t, err)
	if o.RecordEnd != w.End() || o.Position != (pg.Position{TLI: 1, LSN: w.End()}) || o.Control.SystemID != systemID {
		t.Errorf("it holds %s, records to %s", o.Position, o.RecordEnd)
	}
	file, err := restore.ParseFile(segment2, seg)
	must(t, err)
	found := restore.Find(t.Context(), restore.Request{File: file, Timeline: "acme/main"}, []restore.Place{o}, nil, RequiredQuorum(o.Control, 1))
	if found.Kind != restore.Present || found.Tail != 1 {
		t.Fatalf("got %+v", found.Decision)
	}
	b, err := io.ReadAll(found.Body)
	must(t, errors.Join(err, found.Body.Close()))
	if !bytes.HasPrefix(b, w.Bytes()[mib:]) {
		t.Error("it is not what was received")
	}
	if ops != 0 {
		t.Errorf("%d operations changed something", ops)
	}
	if _, err := OpenOffline(h.fs, h.dir, timeline.ID{Tenant: "acme", Name: "other"}); !errors.Is(err, ErrNoTimeline) {
		t.Errorf("of another timeline: %v", err)
	}
}

func TestOfflineBeforeAnyWAL(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	stop(t, k)
	o, err := OpenOffline(h.fs, h.dir, main1)
	must(t, err)
	file := restore.File{TLI: 2, History: true}
	found := restore.Find(context.Background(), restore.Request{File: file, Timeline: "acme/main"}, []restore.Place{o}, nil, RequiredQuorum(o.Control, 0))
	if found.Kind != restore.Unknown {
		t.Errorf("got %+v", found.Decision)
	}
}

func TestRequiredQuorum(t *testing.T) {
	c := timeline.Control{Quorums: []timeline.Quorum{
		{TLI: 1, Required: 2, Synchronous: true}, {TLI: 2, Unbounded: true, Required: 1},
	}}
	for tli, want := range map[pg.TLI]int{1: 2, 2: 0, 3: 1} {
		if got := RequiredQuorum(c, tli).Required; got != want {
			t.Errorf("TLI %d: %d, want %d", tli, got, want)
		}
	}
}
