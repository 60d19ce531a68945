package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

func (d *demo) startPrimary(life, story context.Context) error {
	d.say.step("Start a PostgreSQL: the primary")
	server, err := pgserver.Start(life, pgserver.Options{
		Dir: filepath.Join(d.dir, "primary"),
		// What it acknowledges is on its disk, as on any server that is meant seriously.
		Config: map[string]string{"fsync": "on"},
	})
	if err != nil {
		return err
	}
	d.primary = server
	for _, sql := range []string{
		"CREATE ROLE sluice LOGIN REPLICATION",
		"CREATE TABLE payments (session int, n int, payload text, PRIMARY KEY (session, n))",
	} {
		if err := d.sql(story, sql); err != nil {
			return err
		}
	}
	d.say.detail("PostgreSQL %d listens on port %d", server.Installation().Major, server.Port())
	return nil
}

func (d *demo) startNode(life, story context.Context) error {
	d.say.step("Start Sluice")
	n, err := startNode(life, d.binary, filepath.Join(d.dir, "node"))
	if err != nil {
		return err
	}
	d.node = n
	d.say.command("sluice serve --config %s", n.configFile())
	d.say.command("export SLUICE_SERVER=%s", n.url)
	return n.waitReady(story)
}

func (d *demo) createTimeline(_, story context.Context) error {
	d.say.step("Let Sluice receive the primary's WAL")
	if err := d.sluice(story, "tenant", "create", "demo"); err != nil {
		return err
	}
	if err := d.sluice(story, "timeline", "create", timelineName, "--source", d.source()); err != nil {
		return err
	}
	return d.waitConnected(story)
}

func (d *demo) takeBackup(_, story context.Context) error {
	d.say.step("Take a base backup, with the tool that one already has")
	dst := d.backupDir()
	d.say.command("%s", commandLine("pg_basebackup", d.primary.BaseBackupArgs(dst, pgserver.NoWAL)...))
	d.say.detail("-X none: the WAL comes from Sluice")
	return d.primary.BaseBackup(story, dst, pgserver.NoWAL)
}

func (d *demo) makeSynchronous(_, story context.Context) error {
	d.say.step("Make every commit wait for Sluice")
	d.say.statement(fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", nodeID))
	d.say.statement("SELECT pg_reload_conf()")
	err := d.primary.Configure(story, map[string]string{"synchronous_standby_names": nodeID})
	if err != nil {
		return err
	}
	return d.check(story)
}

func (d *demo) destroyUnderLoad(_, story context.Context) error {
	d.say.step("Commit rows, from %d sessions at once", sessions)
	return d.underLoad(story, 0, func() error {
		if err := d.watchLoad(story, firstLoad); err != nil {
			return err
		}
		return d.destroy()
	})
}

// destroy is the disaster: it happens while the sessions commit.
func (d *demo) destroy() error {
	d.say.step("Disaster, while the sessions go on: every process of the primary is killed, its data is gone")
	d.say.command("kill -9 …; rm -rf %s", d.primary.Dir())
	if err := d.primary.Kill(); err != nil {
		return err
	}
	return os.RemoveAll(d.primary.Dir())
}

func (d *demo) seal(_, story context.Context) error {
	d.say.detail("%s rows were acknowledged until then", thousands(d.ledger.acknowledged()))
	d.say.step("Seal: Sluice promises never again to acknowledge this WAL, and decides where it ends")
	return d.sluice(story, "timeline", "seal", timelineName)
}

func (d *demo) restore(life, story context.Context) error {
	d.say.step("Restore a new PostgreSQL from the base backup, and the WAL from Sluice")
	fetch := fmt.Sprintf("%s wal-fetch --server %s %s %%f %%p", d.binary, d.node.url, timelineName)
	d.say.detail("restore_command = '%s'", fetch)
	err := pgserver.PrepareRestore(d.backupDir(), fetch, map[string]string{
		// From its first commit on it waits for Sluice.
		"synchronous_standby_names": nodeID,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	server, err := pgserver.StartExisting(life, pgserver.Options{Dir: d.backupDir()})
	if err != nil {
		return err
	}
	d.primary = server
	if err := server.WaitPromoted(story); err != nil {
		return err
	}
	where, err := server.Value(story, "SELECT 'TLI ' || timeline_id || ' on port ' || current_setting('port') FROM pg_control_checkpoint()")
	if err != nil {
		return err
	}
	d.say.detail("recovered and promoted itself in %.1f s: it writes %s", time.Since(began).Seconds(), where)
	return nil
}

func (d *demo) moveOn(_, story context.Context) error {
	d.say.step("Point Sluice to the new primary, and commit more rows")
	if err := d.sluice(story, "timeline", "set", timelineName, "--source", d.source()); err != nil {
		return err
	}
	if err := d.check(story); err != nil {
		return err
	}
	return d.underLoad(story, sessions, func() error { return d.watchLoad(story, secondLoad) })
}

func (d *demo) count(_, story context.Context) error {
	d.say.step("Count")
	rows, err := d.primary.Query(story, "SELECT session, n, payload FROM payments")
	if err != nil {
		return err
	}
	found, err := parseRows(rows)
	if err != nil {
		return err
	}
	c := d.ledger.count(found)
	d.say.verdict(c)
	if c.lost() > 0 {
		return fmt.Errorf("%w: %d", ErrLost, c.lost())
	}
	if c.acknowledged == 0 {
		return errors.New("no row was acknowledged, which proves nothing")
	}
	return nil
}

// backupDir is where the base backup is taken to, and then becomes a server.
func (d *demo) backupDir() string { return filepath.Join(d.dir, "restored") }

// source is what Sluice connects to the primary by.
func (d *demo) source() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=sluice", d.primary.Port())
}

// sql shows a statement and runs it on the primary.
func (d *demo) sql(ctx context.Context, statement string) error {
	d.say.statement(statement)
	return d.primary.Exec(ctx, statement)
}

// sluice shows a verb, runs it and shows what it answers.
func (d *demo) sluice(ctx context.Context, args ...string) error {
	d.say.command("%s", commandLine("sluice", args...))
	out, err := d.node.verb(ctx, args...)
	d.say.indented(out)
	return err
}

// check asks Sluice whether the primary waits for it, until it does: it takes
// a moment until PostgreSQL has read its new settings, or Sluice connected.
func (d *demo) check(ctx context.Context) error {
	args := []string{"timeline", "check", timelineName}
	d.say.command("%s", commandLine("sluice", args...))
	out, err := d.node.retry(ctx, args...)
	d.say.indented(out)
	return err
}
