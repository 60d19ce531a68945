package replication

import (
	"encoding/binary"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// statusLen is the length of a standby status update in its CopyData.
const statusLen = 1 + 4 + 1 + 3*8 + 8 + 1

// postgresEpoch is what PostgreSQL counts microseconds from (POSTGRES_EPOCH_JDATE).
var postgresEpoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// appendStatus encodes a standby status update (protocol.sgml, "Standby status update"; WalSndLoop's counterpart is
// ProcessStandbyReplyMessage in walsender.c). flush stands for written and flushed both, so that remote_write waits for
// the disk as well; 0 acknowledges nothing. Nothing is ever applied, so remote_apply waits for ever.
func appendStatus(b []byte, flush pg.LSN, now time.Time, replyNow bool) []byte {
	b = append(b, 'd')
	b = binary.BigEndian.AppendUint32(b, statusLen-1)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, uint64(flush))
	b = binary.BigEndian.AppendUint64(b, uint64(flush))
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Sub(postgresEpoch).Microseconds()))
	if replyNow {
		return append(b, 1)
	}
	return append(b, 0)
}
