package replication

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sluicewal/sluice/internal/pg"
)

// Source is what a server says of itself before it streams.
type Source struct {
	SystemID      uint64
	SegmentSize   pg.SegmentSize
	TLI           pg.TLI
	Flush         pg.LSN // how far its own WAL is flushed; in recovery, how far it has replayed or received
	InRecovery    bool
	ServerVersion int        // as PQserverVersion: 150018 is 15.18
	History       pg.History // of TLI
	HistoryRaw    []byte     // the history file, byte for byte; nil on TLI 1
	Slot          Slot       // ours, as it was when we came, or after it was made
	Address       string     // of the server, as connected to
	BackendPID    uint32     // the walsender's process
}

// Version prints the server's version as people do: "15.18".
func (s Source) Version() string {
	return fmt.Sprintf("%d.%d", s.ServerVersion/10000, s.ServerVersion%10000)
}

// identify asks who is there. It leaves Slot empty.
func (l *link) identify(ctx context.Context) (Source, error) {
	src := Source{Address: l.peer().String(), BackendPID: l.pg.PID()}
	var err error
	if src.ServerVersion, err = parseVersion(l.pg.ParameterStatus("server_version")); err != nil {
		return Source{}, err
	}
	if err := l.identifySystem(ctx, &src); err != nil {
		return Source{}, err
	}
	size, err := l.show(ctx, "wal_segment_size")
	if err != nil {
		return Source{}, err
	}
	if src.SegmentSize, err = pg.ParseSegmentSize(size); err != nil {
		return Source{}, err
	}
	if src.InRecovery, err = l.inRecovery(ctx); err != nil {
		return Source{}, err
	}
	src.History, src.HistoryRaw, err = l.history(ctx, src.TLI)
	return src, err
}

// identifySystem reads the system identifier, the TLI and the position.
func (l *link) identifySystem(ctx context.Context, src *Source) error {
	row, err := l.row(ctx, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(string(row[0]), 10, 64)
	if err != nil || id == 0 {
		return fmt.Errorf("IDENTIFY_SYSTEM: invalid system identifier %q", row[0])
	}
	tli, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil || tli == 0 {
		return fmt.Errorf("IDENTIFY_SYSTEM: invalid TLI %q", row[1])
	}
	flush, err := pg.ParseLSN(string(row[2]))
	if err != nil {
		return fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	src.SystemID, src.TLI, src.Flush = id, pg.TLI(tli), flush
	return nil
}

func (l *link) inRecovery(ctx context.Context) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	recovering, err := inRecovery(limited, l.pg)
	if err != nil {
		return false, fmt.Errorf("ask whether the source is in recovery: %w", explain(ctx, err))
	}
	return recovering, nil
}

// history fetches the history of a TLI. TLI 1 has no file.
func (l *link) history(ctx context.Context, tli pg.TLI) (pg.History, []byte, error) {
	if tli == 1 {
		return pg.History{TLI: 1}, nil, nil
	}
	row, err := l.row(ctx, "TIMELINE_HISTORY "+tli.String(), 2)
	if err != nil {
		return pg.History{}, nil, missingHistory(tli, err)
	}
	h, err := pg.ParseHistory(tli, row[1])
	if err != nil {
		return pg.History{}, nil, err
	}
	return h, row[1], nil
}

// missingHistory tells a history file that the source does not have from other errors.
func missingHistory(tli pg.TLI, err error) error {
	if !hasCode(err, codeUndefinedFile) {
		return err
	}
	return &MissingWALError{Text: fmt.Sprintf("the source does not have %s, the history of TLI %s (it says: %v); copy the file "+
		"into its pg_wal from a server or an archive that has it", pg.HistoryName(tli), tli, err)}
}
