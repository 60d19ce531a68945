package pg

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is an offset in the WAL, in bytes from its beginning. Zero means "none", as in PostgreSQL (InvalidXLogRecPtr):
// no record starts there. Two LSNs can be compared only along one history; what crosses nodes is a [Position].
type LSN uint64

// ParseLSN reads an LSN as pg_lsn_in does (src/backend/utils/adt/pg_lsn.c): one to eight hexadecimal digits of either
// case, a slash, one to eight digits, and nothing else.
func ParseLSN(s string) (LSN, error) {
	hi, lo, found := strings.Cut(s, "/")
	if !found {
		return 0, fmt.Errorf("invalid LSN %q: want two hexadecimal numbers joined by a slash, such as 16/B374D848", s)
	}
	high, okHigh := parseHalf(hi)
	low, okLow := parseHalf(lo)
	if !okHigh || !okLow {
		return 0, fmt.Errorf("invalid LSN %q: each side of the slash must be one to eight hexadecimal digits", s)
	}
	return LSN(high)<<32 | LSN(low), nil
}

// parseHalf reads 32 bits of an LSN. ParseUint alone would also take longer runs of zeros.
func parseHalf(s string) (uint64, bool) {
	if len(s) > 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return n, err == nil
}

// String prints the LSN as PostgreSQL 13 to 18 do: "16/B374D848", without leading zeros on either side.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// MarshalText is [LSN.String], so that JSON carries an LSN as the text that people read elsewhere.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is [ParseLSN].
func (l *LSN) UnmarshalText(text []byte) error {
	parsed, err := ParseLSN(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// TLI is PostgreSQL's timeline number. It starts at 1 and grows at each promotion; zero means "none".
type TLI uint32

// String prints the number in decimal, as PostgreSQL's messages do. File names have it in hexadecimal: [HistoryName].
func (t TLI) String() string { return strconv.FormatUint(uint64(t), 10) }

// Position is a point in the WAL that keeps its meaning on another node or after a restart. Positions are ordered along
// one [History] only.
type Position struct {
	TLI TLI `json:"tli"`
	LSN LSN `json:"lsn"`
}

// String prints "TLI 1 at 0/16B3748".
func (p Position) String() string { return fmt.Sprintf("TLI %d at %s", p.TLI, p.LSN) }

// IsZero reports whether the position says nothing, as before the first byte of a timeline is known.
func (p Position) IsZero() bool { return p == Position{} }
