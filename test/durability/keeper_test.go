package durability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// keeper is what stands behind the primary as its synchronous standby: a
// Sluice node, or, as the checker's baseline, pg_receivewal.
type keeper interface {
	// Name is what synchronous_standby_names has.
	Name() string
	// Adopt starts it for the first time, on a source.
	Adopt(ctx context.Context, source string) error
	// Start starts it again after Kill.
	Start(ctx context.Context) error
	Kill() error
	Pause() error
	Resume() error
	// Follow is told the source that a failover ended with.
	Follow(ctx context.Context, source string) error
	// Seal decides the end; nil: it cannot say.
	Seal(ctx context.Context) (*rig.Seal, error)
	// Sealed is the end that a restore decided, for byFetch and offline.
	Sealed(ctx context.Context) (*rig.Seal, error)
	// Received is the end of all bytes that it holds; 0: it cannot say.
	Received(ctx context.Context) pg.LSN
	// RestoreCommand is for a restore that seals, or comes after a seal, in the given way.
	RestoreCommand(by sealing) string
	// Following returns nil once it streams from the source's TLI, with nothing said to have diverged.
	Following(ctx context.Context, tli int) error
	// Describe is what it says of itself, for a failure's text.
	Describe(ctx context.Context) string
}

// sluice is the keeper that the test is about.
type sluice struct{ *rig.Node }

func (sluice) Name() string { return rig.NodeID }

func (s sluice) Adopt(ctx context.Context, source string) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	return s.Create(ctx, source)
}

func (s sluice) Follow(ctx context.Context, source string) error { return s.Node.Follow(ctx, source) }

func (s sluice) Seal(ctx context.Context) (*rig.Seal, error) {
	seal, err := s.Node.Seal(ctx)
	return &seal, err
}

// Sealed asks again: a seal answers the end that was decided first.
func (s sluice) Sealed(ctx context.Context) (*rig.Seal, error) {
	if s.Running() {
		return s.Seal(ctx)
	}
	seal, err := s.SealOffline(ctx)
	return &seal, err
}

func (s sluice) Received(ctx context.Context) pg.LSN {
	status, err := s.Status(ctx)
	if err != nil {
		return 0 // it does not run
	}
	return status.FlushLSN
}

func (s sluice) RestoreCommand(by sealing) string {
	switch by {
	case byFetch:
		return s.Node.RestoreCommand("--seal")
	case offline:
		return s.OfflineRestoreCommand("--seal")
	default:
		return s.Node.RestoreCommand()
	}
}

func (s sluice) Following(ctx context.Context, tli int) error {
	status, err := s.AwaitStatus(ctx, fmt.Sprintf("the node follows TLI %d", tli), func(status rig.Status) bool {
		return int(status.TLI) == tli && status.Source.Connected
	})
	if err != nil {
		return err
	}
	if len(status.Diverged) > 0 {
		return fmt.Errorf("the node says that WAL diverged, in a failover at the sealed end: %+v", status.Diverged)
	}
	return nil
}

func (s sluice) Describe(ctx context.Context) string {
	status, err := s.Status(ctx)
	return fmt.Sprintf("node: running %t, status %+v, %v", s.Running(), status, err)
}

// receivewal is pg_receivewal --synchronous behind the same interface. It
// knows no seal, and its restore takes the .partial file by hand.
type receivewal struct {
	*rig.ReceiveWAL
	source string
}

func newReceivewal(t testing.TB, install pgserver.Installation) *receivewal {
	return &receivewal{ReceiveWAL: rig.NewReceiveWAL(t, install, "receivewal", true)}
}

func (*receivewal) Name() string { return "receivewal" }

func (r *receivewal) Adopt(ctx context.Context, source string) error {
	r.source = source
	return r.Start(ctx)
}

// Start removes what a kill left of a segment that was being made: pg_receivewal fills it with zeros under its name, and refuses one
// of another size for ever. Nothing of it was received yet.
func (r *receivewal) Start(ctx context.Context) error {
	made, err := filepath.Glob(filepath.Join(r.Dir(), "*.partial"))
	if err != nil {
		return err
	}
	for _, path := range made {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 && info.Size() < 16<<20 { // its primary has the default
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return r.ReceiveWAL.Start(ctx, r.source)
}

func (r *receivewal) Follow(ctx context.Context, source string) error {
	return errors.Join(r.Kill(), r.Adopt(ctx, source))
}

func (r *receivewal) Seal(context.Context) (*rig.Seal, error) { return nil, r.Kill() }

func (r *receivewal) Sealed(context.Context) (*rig.Seal, error) { return nil, nil }

func (*receivewal) Received(context.Context) pg.LSN { return 0 }

func (r *receivewal) RestoreCommand(sealing) string {
	file := filepath.Join(r.Dir(), "%f")
	return fmt.Sprintf("cp %s %%p || cp %s.partial %%p", file, file)
}

func (r *receivewal) Following(context.Context, int) error { return nil }

func (r *receivewal) Describe(context.Context) string { return "pg_receivewal in " + r.Dir() }
