package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotReplicated says that a statement was done on the primary alone:
// PostgreSQL reports success with a warning when the wait for the synchronous
// standby is cancelled (syncrep.c). Such a commit is not an acknowledged one.
var ErrNotReplicated = errors.New("the wait for synchronous replication was cancelled")

// Conn is one connection to a server. It is for one goroutine.
type Conn struct {
	conn          *pgconn.PgConn
	notReplicated atomic.Bool // the warning came since the last statement began
}

// Conninfo is what a client connects by, in libpq's key=value form.
func (s *Server) Conninfo() string {
	info := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres", s.Port(), Superuser)
	if s.opts.Password != "" {
		info += " password=" + quoteConninfo(s.opts.Password)
	}
	return info
}

// quoteConninfo quotes a value as libpq's documentation says (34.1.1.1).
func quoteConninfo(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// Connect opens a connection as Superuser.
func (s *Server) Connect(ctx context.Context) (*Conn, error) {
	cfg, err := pgconn.ParseConfig(s.Conninfo() + " sslmode=disable")
	if err != nil {
		return nil, err
	}
	c := &Conn{}
	cfg.OnNotice = c.notice
	if c.conn, err = pgconn.ConnectConfig(ctx, cfg); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.Severity == "WARNING" && strings.Contains(n.Message, "wait for synchronous replication") {
		c.notReplicated.Store(true)
	}
}

// Exec runs statements by the simple protocol. No error means that all were
// done and, where they committed with a synchronous standby configured, that
// the standby has them: ErrNotReplicated otherwise.
func (c *Conn) Exec(ctx context.Context, sql string) error {
	c.notReplicated.Store(false)
	if _, err := c.conn.Exec(ctx, sql).ReadAll(); err != nil {
		return err
	}
	if c.notReplicated.Load() {
		return ErrNotReplicated
	}
	return nil
}

// Query runs one statement and returns its rows as text; NULL is "". An error
// means the same as Exec's.
func (c *Conn) Query(ctx context.Context, sql string) ([][]string, error) {
	c.notReplicated.Store(false)
	results, err := c.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if c.notReplicated.Load() {
		return nil, ErrNotReplicated
	}
	return textRows(results), nil
}

func textRows(results []*pgconn.Result) [][]string {
	var rows [][]string
	for _, result := range results {
		for _, values := range result.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// Close ends the connection; one that is broken already is no error.
func (c *Conn) Close(ctx context.Context) error {
	if c.conn.IsClosed() {
		return nil
	}
	return c.conn.Close(ctx)
}

// Exec runs statements on a connection of their own; see Conn.Exec.
func (s *Server) Exec(ctx context.Context, sql string) error {
	_, err := s.Query(ctx, sql)
	return err
}

// Query runs a statement on a connection of its own; see Conn.Query.
func (s *Server) Query(ctx context.Context, sql string) ([][]string, error) {
	c, err := s.Connect(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := c.Query(ctx, sql)
	// What the answer says is known; how the goodbye went changes nothing.
	_ = c.Close(ctx)
	return rows, err
}

// Value runs a statement and returns the first value of its first row.
func (s *Server) Value(ctx context.Context, sql string) (string, error) {
	rows, err := s.Query(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || len(rows[0]) == 0 {
		return "", fmt.Errorf("no row: %s", sql)
	}
	return rows[0][0], nil
}
