// Package wal keeps one timeline's WAL on local disk: plain PostgreSQL segment files and .history files in one directory, the
// segment that is being written named .partial, as pg_receivewal has it.
//
// What [Log.Sync] has returned is durable: after kill -9, a power loss, a full disk or a failed fsync it is there, byte for byte,
// if the disk keeps what it said it kept. Half a record at the end is the exception, and no loss: nobody's commit depends on
// it. The assumptions about a disk are those of POSIX and no more: bytes are durable after fdatasync, names after fsync of the
// directory; rename is atomic; until then any mixture of pages and names may survive. Tests run every operation as a crash
// point and as one that fails, on a file system that forgets as much (crashfs).
//
//   - A segment is made under a temporary name, filled with zeros, synced, and renamed before the first byte is put into it.
//   - A sync that failed is never repeated: the kernel may have dropped the pages and called them clean. The log is poisoned,
//     and [Log.Recover] copies what an earlier sync vouched for into a new file.
//   - A start that does not follow a clean close finds the end by walking records, and copies the open segment likewise,
//     because the process that died may have seen a sync fail.
//   - WAL is verified on its way in: a record with a wrong checksum, or after the wrong record, is refused.
//
// # Who may call what
//
// One goroutine at a time is the writer: it calls Start, Rewind, Append, SwitchTLI and Recover. Sync may run meanwhile, from
// another goroutine. Everything else may be called by anybody at any time. Close is called when the writer has left.
package wal
