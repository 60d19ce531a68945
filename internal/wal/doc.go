// Package wal keeps one timeline's WAL on local disk: plain PostgreSQL segment files and .history files in one directory, the
// segment that is being written named .partial, as pg_receivewal has it.
//
// What [Log.Sync] has returned is durable: after kill -9, a power loss, a full disk or a failed fsync it is there, byte for byte,
// if the disk keeps what it said it kept. Half a record at the end is the exception, and no loss: nobody's commit depends on
// it. The assumptions about a disk are those of POSIX and no more: bytes are durable after fdatasync, names after fsync of the
// directory; rename is atomic; until then any mixture of pages and names may survive. Tests run every operation as a crash
// point and as one that fails, on a file system that forgets as much (crashfs).
//
//   - A segment is made under a temporary name, filled with zeros, or only allocated where WAL is about to fill it (Expect), and
//     synced. It is renamed before the first byte is put into it; nothing in it is vouched for before that name is durable.
//   - A sync that failed is never repeated: the kernel may have dropped the pages and called them clean. The log is poisoned,
//     and [Log.Recover] copies what an earlier sync vouched for into a new file.
//   - A start that does not follow a clean close finds the end by walking records, and copies the open segment likewise,
//     because the process that died may have seen a sync fail.
//   - WAL is verified on its way in: a record with a wrong checksum, or after the wrong record, is refused.
//
// # Torn pages
//
// Bytes that are durable are written again when more is put into their page: the page cache writes whole pages, and a power loss
// may tear one, sector by sector. That loses nothing, because what is written again has not changed: below the durable end each
// sector is the same before and after, and above it nothing was vouched for. The file system of the tests keeps or loses pages of
// 4 KiB whole; a finer tear only mixes two versions that agree where it counts. Direct writes (WriteDirect) do not even come
// near: they are of whole pages, all of whose bytes are new. Above the end there are zeros, or what a write that no sync has
// vouched for left; a start finds the end by walking, and copies the open segment without what lies beyond.
//
// # Who may call what
//
// One goroutine at a time is the writer: it calls Start, Rewind, Append, SwitchTLI and Recover, and Check, whose second half,
// Write, may be another goroutine's. Sync may run meanwhile, from yet another. Everything else may be called by anybody at any time. Close is called when the writer has left.
package wal
