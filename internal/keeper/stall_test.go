package keeper

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/timeline"
)

// slow is object storage of which each operation takes a while longer, or hangs until whoever asked gives up.
type slow struct {
	takes atomic.Int64 // nanoseconds
	hung  atomic.Int64 // operations that take long just now
}

func (s *slow) config(dir string) func(*Config) {
	return func(c *Config) {
		with(dir)(c)
		c.Store.PartialInterval = 24 * time.Hour
		c.Store.Backup.Concurrency = 1
		c.Store.Backup.Events.Operation = func(ctx context.Context, _ backup.Operation) {
			takes := time.Duration(s.takes.Load())
			if takes > time.Hour {
				s.hung.Add(1)
				defer s.hung.Add(-1)
			}
			select {
			case <-time.After(takes):
			case <-ctx.Done():
			}
		}
	}
}

// slowDrain detaches a tenant that has five segments more than object storage, while each operation there takes so long.
func slowDrain(t *testing.T, takes time.Duration) (k *Keeper, took time.Duration, err error) {
	store := &slow{}
	k = newHome(t).start(t, store.config(objects(t)))
	m := create(t, k, main1)
	w := source(start + 6*mib + 1000)
	receive(t, m, w, start+mib+1000)
	time.Sleep(time.Minute) // that is backed up
	store.takes.Store(int64(takes))
	receive(t, m, w, w.End())
	began := time.Now()
	err = k.SetMode(t.Context(), "acme", timeline.ModeDetached, false)
	return k, time.Since(began), err
}

// TestDrainThatGetsNowhereIsGivenUp after a minute, and leaves the tenant as it was.
func TestDrainThatGetsNowhereIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, took, err := slowDrain(t, 24*time.Hour)
		if !errors.Is(err, errStalled) || took < drainStalled || took > 2*drainStalled {
			t.Errorf("after %v: %v", took, err)
		}
		if err == nil || !strings.Contains(err.Error(), "object storage has it up to 0/200000") {
			t.Errorf("it does not say how far it came: %v", err)
		}
		m := member(t, k, main1)
		if info, err := k.Tenant("acme"); err != nil || info.Mode != timeline.ModeAttached || m.Snapshot().Draining || state(m) != timeline.StateRunning {
			t.Errorf("the tenant is %+v, %v; the timeline %s", info, err, state(m))
		}
		stop(t, k)
	})
}

// TestDrainThatGetsOnIsWaitedFor, however long it takes.
func TestDrainThatGetsOnIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, took, err := slowDrain(t, drainStalled/8) // a segment needs a few operations, the first one some more
		if err != nil || took < drainStalled {
			t.Errorf("after %v: %v", took, err)
		}
		stop(t, k)
	})
}
