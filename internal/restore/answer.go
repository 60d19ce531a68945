package restore

import "github.com/sluicewal/sluice/internal/pg"

// Request asks for a file.
type Request struct {
	File File
	// Timeline names the timeline in texts: "acme/main".
	Timeline string
	// Copy says that a clone is being made of a timeline that lives on: it ends with the last whole segment below the commit
	// LSN.
	Copy bool
	// AcceptDataLoss takes the word of one qualified node, or of the store, for "it does not exist". Where no node answers, the
	// timeline's end is that of what the store has, the newest open segment with it.
	AcceptDataLoss bool
}

// Answer is what one place, a node or the object store, has of a file and knows about its timeline. What it does not know is
// zero.
type Answer struct {
	From string // names the place
	Err  error  // why there is no answer; nothing else is set then

	// Qualified says that the place has held, unbroken, everything from the start LSN to the source's position when it
	// joined. The "not there" of a node that is not counts for nothing. The store's always counts.
	Qualified bool

	// SystemID is the cluster's system identifier.
	SystemID uint64
	// History leads to the newest TLI that the place has followed; its TLI is zero while there is none.
	History pg.History
	// CommitLSN is the record end, on History.TLI, that is durable on enough nodes as far as the place knows. The store's is the
	// end of its highest whole segment.
	CommitLSN pg.LSN
	// Seals holds the *decided* end of each sealed TLI. A promise whose end is not decided yet is not in it.
	Seals map[pg.TLI]pg.LSN

	// StartLSN is the first position that was ever held; OldestLSN the first that still is. The store knows only the second.
	StartLSN, OldestLSN pg.LSN

	// HasHistory says that it has the history that is asked for.
	HasHistory bool
	// Segments holds, where a segment is asked for, what the place has of the segment with that number on each TLI: the LSN
	// behind its last durable byte, or the record end where that is higher. A switch record (pg_switch_wal) ends with its
	// segment, though the zeros behind it may never have come.
	Segments map[pg.TLI]pg.LSN
}

// Quorum says how many nodes have to agree.
type Quorum struct {
	// Required is the largest n-k+1 of synchronous_standby_names that was seen on the newest TLI: so many qualified nodes
	// that no k can be found without them. One where nothing is synchronous. Zero: n is not known ("*"), and no number is
	// enough.
	Required int
}
