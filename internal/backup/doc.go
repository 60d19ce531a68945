// Package backup keeps WAL in object storage, and what must be decided once where the nodes of a timeline meet: who it is,
// where it was sealed, which promotion it followed.
//
// A [Store] is a bucket that was found to honour "only if absent"; everything here rests on that. Objects are written
// once: the same bytes again are fine, other bytes are a [ConflictError], and nothing is ever overwritten. A [Timeline] is
// one life (incarnation) of a timeline in it. Its segments carry the SHA-256 of their uncompressed bytes, and are handed
// out only if that holds. An [Uploader] puts whole segments there, several at once.
//
// What a store answers is not believed without need: after a write the object is looked for, a "not found" counts only
// while the store is the one that was opened, and every operation has a time after which it is cut.
//
// Stores, timelines and uploaders may be used by several goroutines at once. Nothing here outlives the call that started
// it.
package backup
