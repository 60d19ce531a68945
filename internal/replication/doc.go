// Package replication speaks PostgreSQL's streaming replication protocol. This is its client half: a [Receiver] streams
// WAL from a source into a [Sink], as a synchronous standby with a physical slot.
//
// What is promised:
//
//   - A source that could damage what is kept is refused before its first byte is taken, with both values named (judge).
//   - A position is acknowledged only if a successful [Sink.Sync] returned it, only once the sink has found that what it
//     held is what the source has, and only to a source that is on the TLI of the stream.
//   - WAL that the source no longer has is a [*MissingWALError], never a hole.
//   - The source hears from us also while the disk is slow, so that it does not drop us (wal_sender_timeout).
//   - Every wait on the network ends when its context does. When [Receiver.Run] has returned, its connection is closed and
//     nothing that it started still runs.
//
// A session is one connection: [Receiver.Run] connects, asks who is there, makes the slot, follows a new TLI, and streams
// until the context, the source or an error ends it. Reconnecting is its caller's business, and so is what the sink does
// with the bytes.
//
// [Receiver.Run] belongs to one goroutine at a time; [Receiver.State] may be called by anyone at any time. The functions
// [WatchSettings], [Probe] and [DropSlot] use connections of their own.
package replication
