package wal

import (
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// fillBytes is how many zeros are appended at once.
const fillBytes = 64 << 10

// FillSwitched appends and syncs what a switch record at the end leaves unused of its segment, so that the end is the record
// end that PostgreSQL sees there: a server that is promoted behind pg_switch_wal forks at the segment's end, whether or not the
// zeros were sent in time. There are zeros and nothing else (CopyXLogRecordToWAL in xlog.c clears page headers, too). The
// writer calls it, when no source is connected any more; where no switch record stands at the end, it does nothing.
func (l *Log) FillSwitched() error {
	if err := l.usable(); err != nil {
		return err
	}
	p := l.tip.Load().written.load()
	if p.recordEnd <= p.end {
		_, err := l.Sync() // the record is there and its zeros were appended, but maybe not synced
		return err
	}
	l.forget()
	l.next = p.end
	zeros := make([]byte, fillBytes)
	for l.next < p.recordEnd {
		n := min(pg.LSN(fillBytes), p.recordEnd-l.next)
		if err := l.Append(l.next, zeros[:n]); err != nil {
			return fmt.Errorf("fill the segment behind a switch: %w", err)
		}
	}
	_, err := l.Sync()
	return err
}
