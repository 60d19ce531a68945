// Package timeline holds what is known about a timeline, in memory and durably,
// and who is inside it.
//
// A [Timeline] is the WAL history of one PostgreSQL cluster, kept for a tenant:
// an identity ([ID], [Incarnation]), a control file ([Control]), the WAL itself
// (a wal.Log, once the source has told its segment size), a context and a gate.
// A cancelled context means that the timeline's shutdown began; a closed gate
// means that it ended, and that its files may be reused.
//
// What it promises:
//
//   - A durable fact (a seal, the source, the quorum, what diverged) is on disk
//     before the method that states it returns, and before anybody can see it in
//     memory.
//   - Positions in the control file may lag the WAL, never lead it: they are
//     taken from finished syncs.
//   - [Timeline.Snapshot], [Timeline.Stats] and [Timeline.Status] do no I/O and
//     wait for none.
//
// It starts no goroutine. Who writes state never thinks about tasks: a manager
// watches the state through [Wake] and derives which of them should run. All
// methods may be called at once.
package timeline
