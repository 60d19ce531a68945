package replication

import (
	"context"

	"github.com/sluicewal/sluice/internal/pg"
)

// Sink is what keeps the WAL. The receiver calls one method at a time, except that Check, Expect and Verified may be called while
// a Write or a Sync runs, and Write while a Sync runs.
type Sink interface {
	// Held says what is held and promised. It is asked at each connect, and again after a Follow.
	Held() Held
	// Adopt begins with the first source: its system identifier and segment size become those of what is kept, which begins
	// at start, the start of a segment on a TLI of the source's history; raw is that TLI's history file, to be kept as well,
	// nil on TLI 1. It may be called again as long as nothing was appended.
	Adopt(ctx context.Context, src Source, start pg.Position, raw []byte) error
	// Follow goes over to a child of the TLI that is held, whose history leaves it at or below the held end; raw is the
	// child's history file. Held must say so afterwards. Once per step, oldest first.
	Follow(ctx context.Context, child pg.History, raw []byte) error

	// Rewind begins a session's comparison: the next Append will be at the position returned, [Held].CompareFrom. What is held
	// from there on is compared with what is appended.
	Rewind() pg.LSN
	// RewindOpen is Rewind for a source that no longer has what lies there: it returns the start of the segment that holds the
	// end, which on a border is the end itself. Then only the next record can show that the source's is the same WAL.
	RewindOpen() pg.LSN
	// Verified says whether the comparison has reached the end, so that what was held is the source's too. Until then nothing
	// is acknowledged.
	Verified() bool
	// Append takes the bytes at lsn, where the last Append ended. It must not keep p. Bytes that differ from those held are
	// a [*RefusedError] with [OtherBytes]. After an error, what was taken before can be synced, and a part of p may be among
	// it; a sink that has lost some of it fails to Sync.
	Append(lsn pg.LSN, p []byte) error
	// Check and Write are an Append in two steps, of a stream that is Verified: the first looks at the bytes at lsn, where the
	// last Append or Check ended, and returns the walker behind them; the second takes what was checked, in order, and in
	// pieces that each lie in one segment and end where a Check did. Once Write has an error, only Sync follows. After an error
	// of Check nothing of p was taken, and once all before is written, Append says what is wrong with it.
	Check(lsn pg.LSN, p []byte) (pg.Walker, error)
	Write(p []byte, end *pg.Walker) error
	// Expect says that WAL up to end is about to come.
	Expect(end pg.LSN)
	// Sync makes durable all that was appended when it was called, and returns up to where everything is: the position that
	// may be acknowledged.
	Sync() (pg.LSN, error)
}
