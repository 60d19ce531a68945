// Package e2e holds the scenarios that an operator of PostgreSQL meets, each
// with real servers and the real node: failovers of every kind, sources that
// must be refused, standbys and restores that are fed by wal-fetch, and what
// each of them sees when something is damaged or missing.
//
// A test's name says the behaviour; the letter and number in its comment are
// those of the project's list of scenarios.
package e2e
