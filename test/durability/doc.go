// Package durability holds the test of the promise that Sluice exists for: a
// commit that PostgreSQL acknowledged is never lost.
//
// It runs cycles. In each, a real primary commits rows under load with Sluice
// as its only synchronous standby, while processes are killed, disks fill up
// and lose power; then, still under load, the primary is destroyed, the
// timeline is sealed, a new PostgreSQL is restored from a base backup through
// wal-fetch and promoted, and the next cycle goes on from it. A ledger, kept
// outside the database, knows what was acknowledged, and says after each
// cycle what is missing, what is wrong, and what should not be there.
//
// The controls break the promise on purpose (no synchronous standby, a restore
// without the tail, an fsync that lies): they show that the ledger sees it.
//
//	go test ./test/durability -v -run 'TestDurability$' -cycles 60 -segsize 1 -seed 7
//
// A seed fixes the schedule of a run; times are the machine's.
package durability
