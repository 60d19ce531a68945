package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// timelines lists what is on disk of the tenant acme.
func (h *home) timelines(t *testing.T) []string { return h.entries(t, "tenants", "acme", "timelines") }

func TestCreateTwice(t *testing.T) {
	k := newHome(t).start(t)
	first := create(t, k, main1).Control().Incarnation
	if err := k.CreateTimeline(t.Context(), main1, "host=other user=x", false); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	if c := member(t, k, main1).Control(); c.Incarnation != first || c.Source != "" {
		t.Errorf("it is now %+v", c)
	}
	if err := k.CreateTimeline(t.Context(), main1, "host=a application_name=x", false); !errors.Is(err, ErrBadConninfo) {
		t.Errorf("got %v", err)
	}
}

// TestCreationsAtOnce: one makes it, and it has the source of that one.
func TestCreationsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		saving := make(chan struct{})
		h.disk().Inject(func(op crashfs.Op) error {
			if op.Name == "Create" {
				<-saving // until all others have come as far as they can
			}
			return nil
		})
		made := make(chan string, 8)
		for i := range cap(made) {
			go func() {
				source := fmt.Sprintf("host=%d user=x", i)
				err := k.CreateTimeline(t.Context(), main1, source, false)
				if err != nil && !errors.Is(err, ErrExists) {
					t.Error(err)
				}
				if err != nil {
					source = ""
				}
				made <- source
			}()
		}
		synctest.Wait()
		close(saving)
		var sources []string
		for range cap(made) {
			if s := <-made; s != "" {
				sources = append(sources, s)
			}
		}
		if c := member(t, k, main1).Control(); len(sources) != 1 || c.Source != sources[0] {
			t.Errorf("%q were made, the source is %q", sources, c.Source)
		}
		stop(t, k)
	})
}

// TestDeletionOutlivesWhoAsked (D2): the client goes away, the work goes on, a second request joins it.
func TestDeletionOutlivesWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		m := create(t, k, main1)
		pass, err := m.Enter(t.Context(), holderWALDownload)
		must(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		first := make(chan error, 1)
		go func() { first <- k.DeleteTimeline(ctx, main1, false) }()
		synctest.Wait()
		cancel(errTest)
		if err := <-first; !errors.Is(err, errTest) || !strings.Contains(err.Error(), "delete timeline acme/main goes on") {
			t.Errorf("the first: %v", err)
		}
		if op := m.Status().Operation; op == nil || op.Name != "delete" || op.Step != "stop" || op.Since.IsZero() {
			t.Errorf("the status says %+v", op)
		}
		second := make(chan error, 1)
		go func() { second <- k.DeleteTimeline(t.Context(), main1, false) }()
		synctest.Wait()
		if !slices.Equal(h.timelines(t), []string{"main"}) {
			t.Error("its files are gone, and somebody is inside")
		}
		pass.Leave()
		must(t, <-second)
		if left := h.timelines(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		if err := k.DeleteTimeline(t.Context(), main1, false); !errors.Is(err, ErrNoTimeline) {
			t.Errorf("once more (D4): %v", err)
		}
		stop(t, k)
	})
}

// TestDeletionSaysWhoseCommitsHang, and is held up by nothing: the source may be gone for good.
func TestDeletionSaysWhoseCommitsHang(t *testing.T) {
	for names, waited := range map[string]bool{"a": true, "other": false} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			k := newHome(t).start(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			m := create(t, k, main1)
			receive(t, m, source(start+1000), start+1000)
			must(t, m.SetSource(t.Context(), refusing, false))
			setQuorum(t, m, names)
			must(t, k.DeleteTimeline(t.Context(), main1, false))
			if said := strings.Contains(log.String(), "commits there hang"); said != waited {
				t.Errorf("synchronous_standby_names is %q: the log says %s", names, log.String())
			}
			stop(t, k)
		})
	}
}

// TestRecreate (D7): while the old life ends, a new one waits for it, and nothing of the old one reaches it.
func TestRecreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		old := create(t, k, main1)
		pass, err := old.Enter(t.Context(), holderRequest)
		must(t, err)
		done := make(chan error, 2)
		go func() { done <- k.DeleteTimeline(t.Context(), main1, false) }()
		synctest.Wait()
		go func() { done <- k.CreateTimeline(t.Context(), main1, "host=new user=x", false) }()
		synctest.Wait()
		pass.Leave()
		must(t, errors.Join(<-done, <-done))
		m := member(t, k, main1)
		if m.Control().Incarnation == old.Control().Incarnation || m.Control().Source != "host=new user=x" {
			t.Errorf("it is %+v", m.Control())
		}
		if err := old.SetSource(t.Context(), "host=late user=x", false); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("a late write: %v", err)
		}
		stop(t, k)
		c, err := timeline.LoadControl(h.fs, timeline.Dir(h.dir, main1))
		if err != nil || c.Incarnation != m.Control().Incarnation || c.Source != "host=new user=x" {
			t.Errorf("durable is %+v, %v", c, err)
		}
	})
}

func TestBrokenTimelineCanBeDeleted(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	stop(t, k)
	h.damage(t, main1)
	k = h.start(t)
	must(t, k.DeleteTimeline(t.Context(), main1, false))
	if left := h.timelines(t); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
	create(t, k, main1)
}

// eachOperation runs a new node with a timeline, and what is tried on it with its n-th operation failing, for each n until it
// needs no more of them.
func eachOperation(t *testing.T, failure error, prepare func(*testing.T, *Keeper), try func(*Keeper) error, then func(t *testing.T, h *home, k *Keeper, err error)) {
	t.Helper()
	for n, more := 1, true; more; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			h := newHome(t)
			k := h.start(t)
			prepare(t, k)
			before := h.disk().Ops()
			h.disk().Inject(crashfs.FailNth(before+n, failure))
			err := try(k)
			h.disk().Inject(nil)
			if err == nil && h.disk().Ops()-before < n {
				more = false
				return
			}
			then(t, h, k, err)
		})
	}
}

func withWAL(t *testing.T, k *Keeper) {
	t.Helper()
	w := source(start + mib + 50_000)
	receive(t, create(t, k, main1), w, w.End())
}

// TestDeletionGoesOnAfterACrash (D6) at any operation: once the wish is durable it is carried out.
func TestDeletionGoesOnAfterACrash(t *testing.T) {
	del := func(k *Keeper) error { return k.DeleteTimeline(context.Background(), main1, false) }
	resumed := 0
	eachOperation(t, crashfs.ErrCrashed, withWAL, del, func(t *testing.T, h *home, k *Keeper, err error) {
		if !errors.Is(err, crashfs.ErrCrashed) {
			t.Fatalf("got %v", err)
		}
		h.crash(k)
		k = h.start(t)
		m, err := k.Member(main1)
		if err == nil && !m.Control().Deleting {
			if state(m) != timeline.StateRunning || m.Log() == nil {
				t.Errorf("it is %s", state(m))
			}
		} else {
			resumed++
		}
		if err := del(k); err != nil && !errors.Is(err, ErrNoTimeline) {
			t.Error(err)
		}
		if left := h.timelines(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
	})
	if resumed < 5 {
		t.Errorf("%d deletions were cut off", resumed)
	}
}

// TestDeletionThatFailedCanBeRepeated: an error at any operation, and the status does not say that it is still under way.
func TestDeletionThatFailedCanBeRepeated(t *testing.T) {
	del := func(k *Keeper) error { return k.DeleteTimeline(context.Background(), main1, false) }
	eachOperation(t, syscall.EIO, withWAL, del, func(t *testing.T, h *home, k *Keeper, err error) {
		if err == nil {
			return
		}
		if m, err := k.Member(main1); err != nil || m.Status().Operation != nil {
			t.Errorf("after the error: %v, %+v", err, m.Status().Operation)
		}
		must(t, del(k))
		if left := h.timelines(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
	})
}

// TestCreationThatACrashCutOff (D6): it is there whole, or not at all.
func TestCreationThatACrashCutOff(t *testing.T) {
	nothing := func(*testing.T, *Keeper) {}
	try := func(k *Keeper) error { return k.CreateTimeline(context.Background(), main1, "host=a user=x", false) }
	eachOperation(t, crashfs.ErrCrashed, nothing, try, func(t *testing.T, h *home, k *Keeper, err error) {
		h.crash(k)
		k = h.start(t)
		if m, err := k.Member(main1); err != nil {
			must(t, try(k))
		} else if state(m) != timeline.StateRunning || m.Control().Source != "host=a user=x" {
			t.Errorf("it is %s: %+v", state(m), m.Control())
		}
		if left := h.timelines(t); !slices.Equal(left, []string{"main"}) {
			t.Errorf("there are %q", left)
		}
	})
}

// TestFileDoesNotBringBackWhatIsBeingDeleted (O3, as far as a node without a store can know it).
func TestFileDoesNotBringBackWhatIsBeingDeleted(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	m := create(t, k, main1)
	must(t, m.MarkDeleting(t.Context(), false))
	stop(t, k)
	k = h.start(t, func(c *Config) { c.Timelines = []TimelineConfig{{ID: main1, Source: "host=a user=x"}} })
	if err := k.DeleteTimeline(t.Context(), main1, false); err != nil && !errors.Is(err, ErrNoTimeline) {
		t.Error(err)
	}
	if _, err := k.Member(main1); !errors.Is(err, ErrNoTimeline) {
		t.Errorf("got %v", err)
	}
	if left := h.timelines(t); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}

func TestTenants(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	for _, want := range []bool{true, false} {
		if created, err := k.CreateTenant(t.Context(), "acme"); err != nil || created != want {
			t.Errorf("created %v, %v", created, err)
		}
	}
	create(t, k, main1)
	if info, err := k.Tenant("acme"); err != nil || info.Timelines != 1 || info.Stopping {
		t.Errorf("got %+v, %v", info, err)
	}
	if _, err := k.Tenant("other"); !errors.Is(err, ErrNoTenant) {
		t.Errorf("got %v", err)
	}
	if err := k.DeleteTenant(t.Context(), "other", false); !errors.Is(err, ErrNoTenant) {
		t.Errorf("got %v", err)
	}
	must(t, k.DeleteTenant(t.Context(), "acme", false))
	if err := k.DeleteTenant(t.Context(), "acme", false); !errors.Is(err, ErrNoTenant) {
		t.Errorf("got %v", err)
	}
	if _, err := k.Member(main1); !errors.Is(err, ErrNoTenant) {
		t.Errorf("got %v", err)
	}
	if left := h.entries(t, "tenants"); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
	stop(t, k)
	h.crash(k)
	if got := h.start(t).Tenants(); len(got) != 0 {
		t.Errorf("after a restart there are %q", got)
	}
}

// TestTenantDeletionOutlivesWhoAsked, and one timeline that is stuck keeps no other.
func TestTenantDeletionOutlivesWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		for _, name := range []string{"a", "b", "c"} {
			create(t, k, timeline.ID{Tenant: "acme", Name: name})
		}
		pass, err := member(t, k, timeline.ID{Tenant: "acme", Name: "a"}).Enter(t.Context(), holderRequest)
		must(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		first := make(chan error, 1)
		go func() { first <- k.DeleteTenant(ctx, "acme", false) }()
		synctest.Wait()
		cancel(errTest)
		if err := <-first; !errors.Is(err, errTest) || !strings.Contains(err.Error(), "delete tenant acme goes on") {
			t.Errorf("got %v", err)
		}
		if left := h.timelines(t); !slices.Equal(left, []string{"a"}) {
			t.Errorf("%q are left", left)
		}
		if info, err := k.Tenant("acme"); err != nil || !info.Stopping {
			t.Errorf("got %+v, %v", info, err)
		}
		second := make(chan error, 1)
		go func() { second <- k.DeleteTenant(t.Context(), "acme", false) }()
		synctest.Wait() // it joins before the first can end
		pass.Leave()
		must(t, <-second)
		stop(t, k)
	})
}

// TestTenantDeletionRacesCreations (D5): one of them wins cleanly, and the next start agrees with what was answered.
func TestTenantDeletionRacesCreations(t *testing.T) {
	for round := range 30 {
		h := newHome(t)
		k := h.start(t)
		create(t, k, main1)
		var all sync.WaitGroup
		var mu sync.Mutex
		answers := map[string]error{}
		for i := range 4 {
			all.Go(func() {
				name := fmt.Sprintf("new%d", i)
				err := k.CreateTimeline(t.Context(), timeline.ID{Tenant: "acme", Name: name}, "", false)
				if err != nil && !errors.Is(err, timeline.ErrShuttingDown) && !errors.Is(err, ErrNoTenant) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[name] = err
			})
		}
		all.Go(func() { must(t, k.DeleteTenant(t.Context(), "acme", false)) })
		all.Wait()
		var there []string
		for _, m := range k.Members() {
			there = append(there, m.ID().Name)
			if err := answers[m.ID().Name]; err != nil {
				t.Errorf("round %d: %s is there, and the answer was %v", round, m.ID(), err)
			}
		}
		tenants := k.Tenants()
		stop(t, k)
		h.crash(k)
		if left := h.timelines(t); !slices.Equal(left, there) {
			t.Errorf("round %d: %q were there, on disk are %q", round, there, left)
		}
		if left := h.entries(t, "tenants"); len(left) != len(tenants) {
			t.Errorf("round %d: %q were there, on disk are %q", round, tenants, left)
		}
	}
}

// TestTenantDeletionGoesOnAfterACrash (D6): a timeline whose wish was durable goes; asked again, all do.
func TestTenantDeletionGoesOnAfterACrash(t *testing.T) {
	prepare := func(t *testing.T, k *Keeper) {
		for _, name := range []string{"a", "b"} {
			create(t, k, timeline.ID{Tenant: "acme", Name: name})
		}
	}
	del := func(k *Keeper) error { return k.DeleteTenant(context.Background(), "acme", false) }
	eachOperation(t, crashfs.ErrCrashed, prepare, del, func(t *testing.T, h *home, k *Keeper, _ error) {
		h.crash(k)
		k = h.start(t)
		if err := del(k); err != nil && !errors.Is(err, ErrNoTenant) {
			t.Error(err)
		}
		if left := h.entries(t, "tenants"); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		create(t, k, main1)
	})
}

// TestDeletionBesideTheShutdown: the node does not wait for a slow one longer than it may, and the next start goes on.
func TestDeletionBesideTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		create(t, k, main1)
		hang := make(chan struct{})
		h.disk().Inject(func(op crashfs.Op) error {
			if op.Name == "Remove" && strings.Contains(op.Path, timeline.TempPrefix) {
				<-hang
			}
			return nil
		})
		deleted := make(chan error, 1)
		go func() { deleted <- k.DeleteTimeline(t.Context(), main1, false) }()
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errTest)
		if err := k.Shutdown(ctx); !errors.Is(err, errTest) || !strings.Contains(err.Error(), "operations under way") {
			t.Errorf("got %v", err)
		}
		if _, err := Open(t.Context(), h.config()); err == nil {
			t.Error("another node has the directory, while files are being removed")
		}
		close(hang)
		must(t, <-deleted)
		stop(t, k)
	})
}
