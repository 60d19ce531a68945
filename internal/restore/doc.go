// Package restore hands WAL back. A request for a file has one of three answers, never two: here it is, it does not
// exist, I could not find out. PostgreSQL ends a recovery, and promotes, where it is told that a file does not exist; to
// say so without knowing it loses commits that were acknowledged.
//
// [Choose] is the decision, and it is pure: a table and an exhaustive model hold it. [Find] asks places for what they
// have, lets Choose decide, and opens what may be handed out, verified. [Fetch] is the client of it all: it asks sources,
// again if that may help, and puts the file where PostgreSQL wants it, whole or not at all. [Server] is the source that
// is another process, asked over HTTP.
//
// No goroutine outlives the call, or the body, that it was started for. Everything may be called by several at once.
package restore
