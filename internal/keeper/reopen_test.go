package keeper

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// A full disk at the start keeps a timeline from being opened: its open segment has to be copied. It is broken then, and
// by itself no longer, once there is room.
func TestTimelineThatFoundNoRoomIsOpenedWhenThereIs(t *testing.T) {
	disk := crashfs.New()
	id := timeline.ID{Tenant: "acme", Name: "main"}
	fill(t, disk, id)
	disk = disk.Restart(crashfs.Survivors{Killed: true})
	disk.Inject(func(op crashfs.Op) error {
		if op.Name == "Create" {
			return syscall.ENOSPC
		}
		return nil
	})
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{NodeID: "a", DataDir: "/data", FS: disk}
		k := newKeeper(t.Context(), cfg)
		if err := k.openAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * reopenEvery)
		if state, why := mustMember(t, k, id).State(); state != timeline.StateBroken || !errors.Is(why, syscall.ENOSPC) {
			t.Fatalf("with a full disk: state %s, %v", state, why)
		}
		disk.Inject(nil)
		time.Sleep(2 * reopenEvery)
		if state, why := mustMember(t, k, id).State(); state != timeline.StateRunning {
			t.Fatalf("with room again: state %s, %v", state, why)
		}
		if err := k.stopAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDamageIsNotTriedAgain(t *testing.T) {
	for _, test := range []struct {
		why  error
		want bool
	}{
		{syscall.ENOSPC, true},
		{syscall.EMFILE, true},
		{errors.Join(syscall.EIO, &wal.DamagedError{}), false},
		{timeline.ErrControlDamaged, false},
		{errors.New("written by a newer sluice"), false},
	} {
		if got := mayPass(test.why); got != test.want {
			t.Errorf("mayPass(%v) = %t", test.why, got)
		}
	}
}

func mustMember(t *testing.T, k *Keeper, id timeline.ID) *Member {
	t.Helper()
	m, err := k.Member(id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fill makes a timeline with an open segment that was not closed cleanly.
func fill(t *testing.T, disk wal.FS, id timeline.ID) {
	t.Helper()
	ctx := context.Background()
	if err := disk.MkdirAll("/data/tenants/acme/timelines"); err != nil {
		t.Fatal(err)
	}
	tl, err := timeline.Create(ctx, timeline.Config{Dir: timeline.Dir("/data", id), FS: disk, NodeID: "a"}, id, timeline.Creation{})
	if err != nil {
		t.Fatal(err)
	}
	const size = pg.SegmentSize(1 << 20)
	w := pgtest.NewWriter(size.Start(1), size, 1, 42)
	w.Record(1000)
	err = tl.Adopt(ctx, timeline.Adoption{SystemID: 42, SegmentSize: size, Start: pg.Position{TLI: 1, LSN: size.Start(1)}})
	if err == nil {
		err = tl.Log().Append(w.Start(), w.Bytes())
	}
	if err == nil {
		_, err = tl.Log().Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}
