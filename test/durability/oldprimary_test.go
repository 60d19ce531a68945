package durability

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// hopeless is how long a commit of an old primary is watched.
const hopeless = 300 * time.Millisecond

// oldComesBack starts the old primary again at its address, which is still the
// keeper's source: nobody has told it of the new one. Its TLI is sealed.
func (f *failover) oldComesBack(ctx context.Context) error {
	if f.plan.ending != comesBack {
		return nil
	}
	if err := f.wakeKeeper(ctx); err != nil {
		return err
	}
	if err := f.old.Restart(ctx); err != nil {
		return err
	}
	return f.commitsHopelessly(ctx)
}

// oldIsRefused makes the old primary the source, as by a mistyped address,
// after the new one was followed.
func (f *failover) oldIsRefused(ctx context.Context) error {
	node, ok := f.keeper.(sluice)
	if f.plan.ending != comesBack || !ok {
		return nil
	}
	if err := f.keeper.Follow(ctx, f.old.Conninfo()); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := node.AwaitStatus(waiting, "the old primary is refused", func(s rig.Status) bool { return s.Source.State == "refused" })
	if err != nil {
		return err
	}
	if err := f.commitsHopelessly(ctx); err != nil {
		return err
	}
	if err := f.keeper.Follow(ctx, f.server.Conninfo()); err != nil {
		return err
	}
	return f.load.awaitAcks(ctx, 1)
}

// commitsHopelessly commits on the old primary. The commit has to wait until
// the client gives up; PostgreSQL then warns that it may not be replicated.
func (f *failover) commitsHopelessly(ctx context.Context) error {
	c, err := f.old.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	pid, err := c.Query(ctx, "SELECT pg_backend_pid()")
	if err != nil {
		return err
	}
	b := f.ledger.begin(1)
	canceled := make(chan error, 1)
	go func() { canceled <- cancelAfter(ctx, f.old, pid[0][0], hopeless) }()
	err = c.Exec(ctx, f.ledger.insert(b))
	f.ledger.end(b, err)
	if cancelErr := <-canceled; cancelErr != nil {
		return cancelErr
	}
	if !errors.Is(err, pgserver.ErrNotReplicated) {
		return fmt.Errorf("a commit on the old primary, whose TLI is sealed, was answered with: %w", err)
	}
	return nil
}

// cancelAfter cancels what a backend waits for.
func cancelAfter(ctx context.Context, server *pgserver.Server, pid string, d time.Duration) error {
	pause(ctx, d)
	return server.Exec(ctx, "SELECT pg_cancel_backend("+pid+")")
}
