package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// clients is how many write at once.
const clients = 6

// patience is how long commits may take to go on by themselves after a fault.
const patience = 20 * time.Second

// errStall says that commits did not go on by themselves.
var errStall = fmt.Errorf("no commit was acknowledged for %v", patience)

// load is clients that write to one primary until they are stopped, and an
// observer of what the primary believes to be replicated.
type load struct {
	server  *pgserver.Server
	keeper  string // the name whose flush LSN is observed
	ledger  *ledger
	think   time.Duration
	big     atomic.Bool // records of megabytes are written, too
	stop    context.CancelFunc
	done    sync.WaitGroup
	acks    atomic.Int64 // transactions acknowledged
	flushed atomic.Uint64
}

// startLoad starts the clients. Stop ends them.
func startLoad(server *pgserver.Server, keeper string, l *ledger, p plan, seed int64) *load {
	ctx, cancel := context.WithCancel(context.Background())
	ld := &load{server: server, keeper: keeper, ledger: l, think: p.think, stop: cancel}
	for i := range clients {
		ld.done.Go(func() { ld.client(ctx, rand.New(rand.NewPCG(uint64(seed), uint64(i)))) })
	}
	ld.done.Go(func() { ld.observe(ctx) })
	return ld
}

// Stop cuts all clients off and waits for them; what they wait for stays unknown.
func (ld *load) Stop() {
	ld.stop()
	ld.done.Wait()
}

// client writes on one connection after the other.
func (ld *load) client(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		if c, err := ld.server.Connect(ctx); err == nil {
			ld.session(ctx, c, r)
			_ = c.Close(ctx) // broken, or cut off: both are fine here
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// session ends with the first error that is not a doubtful commit.
func (ld *load) session(ctx context.Context, c *pgserver.Conn, r *rand.Rand) {
	for ctx.Err() == nil {
		b := ld.ledger.begin(batchRows(r))
		err := c.Exec(ctx, ld.transaction(b, r))
		ld.ledger.end(b, err)
		if err == nil {
			ld.acks.Add(1)
		} else if !errors.Is(err, pgserver.ErrNotReplicated) {
			return
		}
		if ld.think > 0 {
			pause(ctx, time.Duration(r.Int64N(int64(ld.think))))
		}
	}
}

// batchRows: single rows mostly, and now and then many.
func batchRows(r *rand.Rand) int {
	if r.IntN(25) == 0 {
		return 20 + r.IntN(130)
	}
	return 1
}

// transaction is the SQL of a batch. PostgreSQL runs several statements in one
// message as one transaction.
func (ld *load) transaction(b *batch, r *rand.Rand) string {
	insert := ld.ledger.insert(b)
	if ld.big.Load() && r.IntN(2) == 0 {
		message := fmt.Sprintf("SELECT pg_logical_emit_message(true, 'padding', repeat('x', %d)); ", 1<<20+r.IntN(3<<20))
		return message + insert + "; " + message
	}
	return insert
}

func (l *ledger) insert(b *batch) string {
	var sql strings.Builder
	sql.WriteString("INSERT INTO ledger (id, payload) VALUES ")
	for i := range int64(b.rows) {
		if i > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "(%d, '%s')", b.first+i, l.payload(b.first+i))
	}
	return sql.String()
}

// observe keeps the highest flush LSN that the primary heard of the keeper.
func (ld *load) observe(ctx context.Context) {
	query := fmt.Sprintf("SELECT flush_lsn FROM pg_stat_replication WHERE application_name = '%s' AND flush_lsn IS NOT NULL", ld.keeper)
	for ctx.Err() == nil {
		c, err := ld.server.Connect(ctx)
		for err == nil && ctx.Err() == nil {
			var rows [][]string
			if rows, err = c.Query(ctx, query); err == nil && len(rows) > 0 {
				err = ld.noteFlushed(rows[0][0])
			}
			pause(ctx, 10*time.Millisecond)
		}
		if c != nil {
			_ = c.Close(ctx)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func (ld *load) noteFlushed(text string) error {
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		return err
	}
	if uint64(lsn) > ld.flushed.Load() {
		ld.flushed.Store(uint64(lsn)) // only the observer writes it
	}
	return nil
}

// awaitAcks waits until n more transactions are acknowledged: errStall if they
// are not in time.
func (ld *load) awaitAcks(ctx context.Context, n int64) error {
	want := ld.acks.Load() + n
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errStall)
	defer cancel()
	return rig.Poll(ctx, 5*time.Millisecond, func() (bool, error) { return ld.acks.Load() >= want, nil })
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
