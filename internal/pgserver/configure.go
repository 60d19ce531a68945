package pgserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Configure changes settings of a running server by ALTER SYSTEM and reloads.
// When it returns they are in force: every commit that begins then waits for
// the synchronous standby, if that is what was asked for.
func (s *Server) Configure(ctx context.Context, settings map[string]string) error {
	loaded, err := s.Value(ctx, loadTime)
	if err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	// A statement each: ALTER SYSTEM refuses to run in a transaction.
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		err := s.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = %s", name, quoteLiteral(settings[name])))
		if err != nil {
			return fmt.Errorf("configure PostgreSQL: %w", err)
		}
	}
	if err := s.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	if err := s.awaitReload(ctx, loaded); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	return nil
}

const loadTime = "SELECT pg_conf_load_time()"

// awaitReload waits until a reload is in force. A new backend that has another
// load time than before was forked by a postmaster that had read the file and
// told its children. One of them, the checkpointer, sets the flag in shared
// memory without which no commit waits (SyncRepUpdateSyncStandbysDefined):
// that it has done so is known when it has answered a request.
func (s *Server) awaitReload(ctx context.Context, before string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		now, err := s.Value(ctx, loadTime)
		if err != nil {
			return err
		}
		if now != before {
			return s.Exec(ctx, "CHECKPOINT")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func quoteLiteral(value string) string {
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}
