package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// underLoad runs a function while sessions commit rows, numbered from first.
// It returns when the function has, and every session has ended.
func (d *demo) underLoad(ctx context.Context, first int, during func() error) error {
	loading, enough := context.WithCancel(ctx)
	defer enough()
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() { d.session(ctx, loading.Done(), first+i) })
	}
	err := during()
	enough()
	wg.Wait()
	return err
}

// session commits a row at a time until it is enough, or until its connection
// breaks, as it will in the disaster: the row that was under way is then
// neither acknowledged nor surely absent.
func (d *demo) session(ctx context.Context, enough <-chan struct{}, number int) {
	conn, err := d.primary.Connect(ctx)
	if err != nil {
		d.say.detail("session %d could not connect: %v", number, err)
		return
	}
	defer func() { _ = conn.Close(ctx) }() // it may be broken: nothing is lost by that
	for n := 1; ; n++ {
		select {
		case <-enough:
			return
		default:
		}
		r := row{session: number, n: n}
		if commit(ctx, conn, r) != nil {
			return
		}
		d.ledger.acknowledge(r)
	}
}

// commit inserts a row in a transaction of its own. Nil means that PostgreSQL
// acknowledged the commit, without the warning that it did not wait.
func commit(ctx context.Context, conn *pgserver.Conn, r row) error {
	return conn.Exec(ctx, fmt.Sprintf("INSERT INTO payments VALUES (%d, %d, '%s')", r.session, r.n, r.payload()))
}

// watchLoad tells every second how many rows were acknowledged, for a time.
func (d *demo) watchLoad(ctx context.Context, howLong time.Duration) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	before := d.ledger.acknowledged()
	for elapsed := time.Second; elapsed <= howLong; elapsed += time.Second {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now := d.ledger.acknowledged()
		d.say.detail("%2.0f s: %9s rows acknowledged, %s in this second", elapsed.Seconds(), thousands(now), thousands(now-before))
		before = now
	}
	return nil
}
