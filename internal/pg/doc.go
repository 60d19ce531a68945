// Package pg holds PostgreSQL's own words: LSNs, TLIs and positions, segments and their names, histories, the headers
// of WAL pages and records, the checksum that closes each record, and synchronous_standby_names.
//
// It is pure: no file, no clock, no goroutine, no package state. What it decides it decides from its arguments, so that
// every rule here can be held against a real server's bytes. Each rule names the file of PostgreSQL's source that it
// follows; versions 13 to 18 are understood.
//
// Values are safe to share once built. A [Walker] has one owner.
package pg
