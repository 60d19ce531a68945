package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// link is a replication connection that takes commands. It ends by close, or by hijack, which makes a wire of it.
type link struct {
	pg      *pgconn.PgConn
	resting *pgconn.HijackedConn // what pg was made from, and will be again; nil: it is not resting
	in      io.Reader            // what pg reads from; see hijack
	timeout time.Duration        // for each command
}

// connect opens a replication connection to the first host that will have us. The source sees it as applicationName.
func connect(ctx context.Context, cfg Config, applicationName string) (*link, error) {
	pgCfg, err := cfg.parse(applicationName)
	if err != nil {
		return nil, err
	}
	l := &link{timeout: cfg.ReceiveTimeout}
	pgCfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		l.in = r
		return pgproto3.NewFrontend(r, w)
	}
	l.pg, err = pgconn.ConnectConfig(context.WithValue(ctx, mayDial{}, true), pgCfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", explain(ctx, err))
	}
	return l, nil
}

// query sends one command and returns the rows of its result, as text.
func (l *link) query(ctx context.Context, command string) ([][][]byte, error) {
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	results, err := l.pg.Exec(limited, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, explain(ctx, err))
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("%s: the source answered without a result", command)
	}
	return results[0].Rows, nil
}

// row is query for a command that answers with one row of at least n columns.
func (l *link) row(ctx context.Context, command string, n int) ([][]byte, error) {
	rows, err := l.query(ctx, command)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) < n {
		return nil, fmt.Errorf("%s: want one row of %d columns", command, n)
	}
	return rows[0], nil
}

// show returns a setting. The keyword must be in capitals: PostgreSQL's replication grammar knows no other.
func (l *link) show(ctx context.Context, setting string) (string, error) {
	row, err := l.row(ctx, "SHOW "+setting, 1)
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// rest gives back what pgconn holds for commands to come, most of it buffers, until awaken. Where pgconn still reads ahead
// (see hijack), it stays as it is.
func (l *link) rest() {
	if l.pg.Frontend().ReadBufferLen() > 0 || !l.untouched() {
		return
	}
	resting, err := l.pg.Hijack()
	if err != nil {
		return // it is closed; the next command says so
	}
	resting.Frontend = nil
	l.resting, l.pg, l.in = resting, nil, nil
}

// awaken ends a rest.
func (l *link) awaken() error {
	if l.resting == nil {
		return nil
	}
	var err error
	if l.pg, err = pgconn.Construct(l.resting); err != nil {
		return errors.Join(fmt.Errorf("take the connection up again: %w", err), l.resting.Conn.Close())
	}
	l.resting = nil
	return nil
}

// close says goodbye and waits until pgconn has let go of the connection, at most for limit.
func (l *link) close(limit time.Duration) {
	if l.awaken() != nil {
		return // it is closed
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// How the goodbye went changes nothing: the connection is closed in any case.
	_ = l.pg.Close(ctx)
	abandon(l.pg)
}

// abandon closes the connection under pgconn, and waits for the goroutine that pgconn leaves behind when a command was
// interrupted.
func abandon(conn *pgconn.PgConn) {
	_ = conn.Conn().Close()
	<-conn.CleanupDone()
}

// hijack takes the connection over, to speak on it what pgconn does not. No command may be running.
//
// A write of pgconn that took over 15 ms has started a goroutine there that reads ahead, and that may still hold the next bytes.
// SyncConn says whether that is so; then the wire goes on to read from pgconn's reader, not from the socket.
func (l *link) hijack(limits limits) (*wire, error) {
	buffered := l.pg.Frontend().ReadBufferLen()
	in := l.in
	if conn := l.pg.Conn(); buffered == 0 && l.untouched() {
		in = conn
	}
	hijacked, err := l.pg.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	if buffered > 0 {
		_ = hijacked.Conn.Close()
		return nil, fmt.Errorf("the source sent %d bytes that nobody asked for", buffered)
	}
	return newWire(hijacked.Conn, in, limits), nil
}

// untouched says whether pgconn has nothing to do with reading the connection any more. With a context that has ended, SyncConn
// only looks, and asks the source for nothing.
func (l *link) untouched() bool {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return l.pg.SyncConn(ended) == nil
}

// peer is the address that the connection goes to.
func (l *link) peer() net.Addr { return l.pg.Conn().RemoteAddr() }
