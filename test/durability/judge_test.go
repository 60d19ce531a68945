package durability

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
)

// judgeRows holds the restored server against the ledger.
func (f *failover) judgeRows(ctx context.Context) error {
	found, err := f.found(ctx)
	if err != nil {
		return err
	}
	v := f.ledger.settle(found)
	f.stats.judged(v)
	if err := v.err(); err != nil {
		return err
	}
	return f.server.Exec(ctx, "SELECT bt_index_check('ledger_pkey', true)")
}

// found is what the present primary has in the table.
func (w *world) found(ctx context.Context) (map[int64]string, error) {
	rows, err := w.server.Query(ctx, "SELECT id, payload FROM ledger")
	if err != nil {
		return nil, err
	}
	found := make(map[int64]string, len(rows))
	for _, row := range rows {
		id, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			return nil, err
		}
		found[id] = row[1]
	}
	return found, nil
}

// closeBooks ends the load and looks once more, at the primary that lives:
// what it acknowledged must be there, and what an old one acknowledged after
// the verdict of its failover must not be in the books at all.
func (w *world) closeBooks(ctx context.Context) error {
	w.load.Stop()
	return (&failover{world: w}).judgeRows(ctx)
}

// judgeFork holds the new server's history against the seal, and against what
// the old primary was told to be durable.
func (f *failover) judgeFork(ctx context.Context) error {
	tli, fork, err := newestFork(f.server.Dir())
	if err != nil {
		return err
	}
	f.stats.tli = tli
	if f.sealed == nil {
		return nil
	}
	if fork != f.sealed.End || int(f.sealed.TLI) != f.oldTLI {
		return fmt.Errorf("the new server left at %s, but the seal says TLI %d, %s", fork, f.sealed.TLI, f.sealed.End)
	}
	flushed := pg.LSN(f.oldLoad.flushed.Load())
	f.stats.forked(fork, max(flushed, f.keeper.Received(ctx)))
	if flushed <= fork {
		return nil
	}
	return noRecordEndsIn(ctx, f.server.Installation(), f.old.Dir(), f.oldTLI, fork, flushed)
}

// newestFork reads the newest history file of a server that was promoted:
// its TLI, and where that began.
func newestFork(dir string) (tli int, fork pg.LSN, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "pg_wal", "*.history"))
	if err != nil || len(files) == 0 {
		return 0, 0, fmt.Errorf("no history file in %s: %w", dir, err)
	}
	newest := files[len(files)-1] // Glob sorts, and the names have one length
	b, err := os.ReadFile(newest)
	if err != nil {
		return 0, 0, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("%s: %q", newest, b)
	}
	if fork, err = pg.ParseLSN(fields[1]); err != nil {
		return 0, 0, err
	}
	number, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(newest), ".history"), 16, 64)
	return int(number), fork, err
}

// noRecordEndsIn proves that a flush LSN above the seal's end promised
// nothing: what was reported beyond it is a part of one record. PostgreSQL's
// own reader looks, at the old primary's own WAL.
func noRecordEndsIn(ctx context.Context, install pgserver.Installation, dataDir string, tli int, from, to pg.LSN) error {
	cmd := exec.CommandContext(ctx, filepath.Join(install.BinDir, "pg_waldump"),
		"-p", filepath.Join(dataDir, "pg_wal"), "-t", strconv.Itoa(tli), "-s", from.String(), "-e", to.String())
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if records := strings.TrimSpace(string(out)); records != "" {
		return fmt.Errorf("the primary was told that %s is durable, but the seal's end is %s, and between them are records:\n%.500s", to, from, records)
	}
	// A reader that could not look has seen no record either.
	if err != nil && !strings.Contains(complaint.String(), "could not find a valid record after") {
		return fmt.Errorf("pg_waldump from %s to %s: %w: %s", from, to, err, strings.TrimSpace(complaint.String()))
	}
	return nil
}
