package restore

import "github.com/sluicewal/sluice/internal/pg"

// Kind is one of the three answers. The zero value is Unknown: an answer that somebody forgot to give ends no recovery.
type Kind int

// The answers.
const (
	Unknown Kind = iota // could not find out
	Present             // here it is
	Absent              // it does not exist, for certain
)

// String returns the word that the wire and the metrics use.
func (k Kind) String() string {
	switch k {
	case Present:
		return "file"
	case Absent:
		return "absent"
	default:
		return "unknown"
	}
}

// Reason says in a word why a file could not be had, for programs.
type Reason string

// The reasons.
const (
	Unsealed    Reason = "unsealed"    // it is tail, and its TLI is not sealed: a seal or --copy would help
	BelowStart  Reason = "below_start" // it is older than everything that was ever held
	Removed     Reason = "removed"     // it was held once
	NotHeld     Reason = "not_held"    // no place that answered has it, or enough of it
	NotInLine   Reason = "not_in_line" // its TLI does not lead to the newest one
	NotEnough   Reason = "not_enough"  // too few places say that it does not exist
	Conflict    Reason = "conflict"    // places contradict each other
	Damaged     Reason = "damaged"     // what is there is not what was written
	Unreachable Reason = "unreachable" // nobody answered
	Refused     Reason = "refused"     // the question is wrong: its name, its token
)

// Decision is the answer to a request, and for [Present] what to hand out.
type Decision struct {
	Kind   Kind
	Reason Reason // of Unknown
	// Text says why, and what to do, for people. With Present it is a note, and mostly empty.
	Text string
	// Retry says that the same question may be answered differently in a moment.
	Retry bool
	// Agrees, of Unknown, says that only the object store was asked, and that all it knows speaks for "it does not exist". By
	// itself that is no certainty; beside nodes that are certain it is the word that they lack.
	Agrees bool
	// Loss says that the answer gives up WAL that may have been acknowledged, as the request accepts. Of Present, the file is a
	// segment that was open when it was stored: its bytes end with its last complete record, at or below UpTo.
	Loss bool

	// From names the places that can give the file, best first; of Absent behind a seal, those that know the seal.
	From []string
	// Read is the segment whose bytes are the file's: what was asked for, or, of a child that wrote nothing, its parent's.
	Read File
	// UpTo is where a segment's bytes end. From there to the segment's end the file has zeros.
	UpTo pg.LSN
	// Tail is the TLI whose seal lets the answer out, a file or the word that there is none above the end; zero: it is not
	// tail. Before it is given, the seal must durably say so: from then on somebody may have promoted from it.
	Tail pg.TLI
}
