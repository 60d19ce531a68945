package keeper

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

// wait is work inside a timeline's gate that comes to wait, for object storage that hangs.
type wait struct {
	holder string // in the timeline's gate
	mode   timeline.Mode
	// prepare runs while all is well; begin, once object storage hangs, in a goroutine of its own. Whoever asked never goes away.
	prepare func(context.Context, *Keeper) error
	begin   func(*testing.T, *Keeper, *Member) error
}

func sealIt(ctx context.Context, k *Keeper) error {
	_, err := k.Seal(ctx, main1, true)
	return err
}

// waits are each task and each kind of request that asks object storage for something.
var waits = map[string]wait{
	"backup": {holder: "backup", begin: func(t *testing.T, _ *Keeper, m *Member) error {
		receive(t, m, source(start+6*mib), start+5*mib)
		return nil
	}},
	"backup_partial": {holder: "backup_partial", begin: func(t *testing.T, _ *Keeper, m *Member) error {
		receive(t, m, source(start+6*mib), start+2*mib+9000)
		return nil
	}},
	"receive": {holder: "receive", begin: func(_ *testing.T, _ *Keeper, m *Member) error {
		return m.SetSource(m.Context(), "host=/nowhere port=1 user=x", false)
	}},
	"follow": {holder: "follow", mode: timeline.ModeSecondary, begin: func(*testing.T, *Keeper, *Member) error { return nil }},
	"seal": {holder: "request", begin: func(_ *testing.T, k *Keeper, _ *Member) error {
		return sealIt(context.Background(), k)
	}},
	"unseal": {holder: "request", prepare: sealIt, begin: func(_ *testing.T, k *Keeper, _ *Member) error {
		_, err := k.Unseal(context.Background(), main1, false)
		return err
	}},
	"trim": {holder: "request", begin: func(_ *testing.T, k *Keeper, _ *Member) error {
		_, err := k.Trim(context.Background(), main1, "000000010000000000000002")
		return err
	}},
	"a WAL file": {holder: "wal_download", begin: func(_ *testing.T, k *Keeper, _ *Member) error {
		f, err := k.OpenWAL(context.Background(), main1, WALRequest{File: segment1})
		if err != nil {
			return err
		}
		return f.Close()
	}},
}

// leavesWithin is how long what waits may stay once its timeline alone shuts down.
const leavesWithin = time.Second

// shutAlone lets something wait, and shuts its timeline down while the tenant and the node live on. It returns what the shutdown
// said.
func shutAlone(t *testing.T, w wait) error {
	dir, store := objects(t), &slow{}
	k := newHome(t).start(t, store.config(dir), func(c *Config) { c.Store.PartialInterval = time.Second })
	m := create(t, k, main1)
	receive(t, m, source(start+6*mib), start+2*mib+1000)
	time.Sleep(time.Minute) // all is backed up
	if w.mode != "" {
		must(t, k.SetMode(t.Context(), "acme", w.mode, true))
		m = member(t, k, main1)
	}
	if w.prepare != nil {
		must(t, w.prepare(t.Context(), k))
	}
	synctest.Wait()
	store.takes.Store(int64(2 * time.Hour))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.begin(t, k, m) // what it says depends on where it is cut off
	}()
	for limit := time.Now().Add(time.Minute); !inside(m, w.holder) || store.hung.Load() == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("inside are %+v, and nothing hangs", m.Status().Gate.Holders)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), leavesWithin)
	defer cancel()
	err := m.shutdown(ctx, errTest)
	if cause := context.Cause(m.tenant.Context()); cause != nil {
		t.Errorf("the tenant was shut down, too: %v", cause)
	}
	stop(t, k) // the rest
	<-ended
	return err
}

func inside(m *Member, holder string) bool {
	return slices.ContainsFunc(m.Status().Gate.Holders, func(h timeline.GateHolder) bool { return h.Name == holder })
}

// TestEveryWaitListensToItsTimeline (G11): to a context that is cancelled before the timeline's gate closes, and not only to
// the tenant's, or the node's, or that of whoever asked.
func TestEveryWaitListensToItsTimeline(t *testing.T) {
	for name, w := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := shutAlone(t, w); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWaitForTheTenantIsNoticed holds the test above against what must not exist.
func TestWaitForTheTenantIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := wait{holder: "request", begin: func(_ *testing.T, _ *Keeper, m *Member) error {
			pass, err := m.Enter(m.Context(), holderRequest)
			if err != nil {
				return err
			}
			defer pass.Leave()
			_, err = m.keeper.depot.store.Load().Find(m.tenant.Context(), "acme", "main")
			return err
		}}
		if err := shutAlone(t, bad); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "held by request") {
			t.Errorf("the shutdown said %v", err)
		}
	})
}
