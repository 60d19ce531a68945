package timeline

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Seal is a durable promise never again to acknowledge a TLI. Its end is
// decided once, before it is told to anybody, and never changes.
type Seal struct {
	TLI pg.TLI `json:"tli"`
	// End is the record end that was decided. Nothing above it is ever served,
	// and nothing at or below it is ever said not to exist.
	End pg.LSN    `json:"end"`
	At  time.Time `json:"at"`
	// TailServed is set before the first byte of the tail is handed out; from
	// then on the seal can be taken back only by force, because somebody may
	// have promoted from it.
	TailServed bool `json:"tail_served,omitempty"`
	// DataLossAccepted says that an operator sealed without the word of enough
	// nodes: acknowledged commits may lie above End.
	DataLossAccepted bool `json:"data_loss_accepted,omitempty"`
	// Undelivered says that object storage, where it should have been decided, does
	// not know of it yet.
	Undelivered bool `json:"undelivered,omitempty"`
}

// sealOf returns the seal of a TLI.
func sealOf(seals []Seal, tli pg.TLI) (Seal, bool) {
	for _, s := range seals {
		if s.TLI == tli {
			return s, true
		}
	}
	return Seal{}, false
}
