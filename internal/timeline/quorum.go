package timeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Quorum is what a source's synchronous_standby_names said about us on one TLI.
type Quorum struct {
	TLI pg.TLI `json:"tli"`
	// Raw is the setting as it was read.
	Raw   string   `json:"raw"`
	K     int      `json:"k"`
	N     int      `json:"n"` // 0 with "*"
	Names []string `json:"names,omitempty"`
	// Unbounded says that a setting that was seen on this TLI has "*": n is not
	// known, so that no number of nodes can vouch for all commits.
	Unbounded bool `json:"unbounded,omitempty"`
	// Synchronous says that our name is in it: commits may wait for us.
	Synchronous bool `json:"synchronous"`
	// Waited says that our name was in a setting that was seen on this TLI.
	Waited bool `json:"waited,omitempty"`
	// Required is the largest n-k+1 that was seen on this TLI: so many nodes
	// have to seal before no quorum can be left without them. RequiredBy is the
	// setting that it comes from, as Unbounded does.
	Required   int       `json:"required"`
	RequiredBy string    `json:"required_by,omitempty"`
	ReadAt     time.Time `json:"-"`
}

// ErrUnreadableSetting says that a setting is not what this program knows.
var ErrUnreadableSetting = errors.New("setting is not understood")

// ReadQuorum makes a Quorum of the setting's text, for the node whose
// application_name is name. Of a text that is not understood, which wraps
// ErrUnreadableSetting, it makes one that no number of nodes can vouch for.
func ReadQuorum(tli pg.TLI, raw, name string, now time.Time) (Quorum, error) {
	s, err := pg.ParseSyncStandbyNames(raw)
	if err != nil {
		q := Quorum{TLI: tli, Raw: raw, ReadAt: now, Unbounded: true, Required: 1, RequiredBy: raw}
		return q, fmt.Errorf("synchronous_standby_names %q: %w: %w", raw, ErrUnreadableSetting, err)
	}
	q := Quorum{TLI: tli, Raw: raw, Names: s.Names, ReadAt: now, Required: 1}
	if s.Empty() {
		return q, nil
	}
	q.K, q.Unbounded, q.Synchronous = s.K, s.Star, s.Star || s.Contains(name)
	q.Waited = q.Synchronous
	if s.Star {
		q.RequiredBy = raw
		return q, nil
	}
	q.N = s.N()
	if q.Synchronous {
		q.Required, q.RequiredBy = max(1, s.Required()), raw
	}
	return q, nil
}

// merge returns the quorum that counts after a new reading of the same TLI: the
// setting as it is now, and the strictest requirement that was ever seen,
// because commits made under it are still there.
func (q Quorum) merge(seen Quorum) Quorum {
	if q.TLI != seen.TLI {
		return seen
	}
	seen.Waited = seen.Waited || q.hasWaited()
	if q.stricter(seen) {
		seen.Unbounded, seen.Required, seen.RequiredBy = q.Unbounded, q.Required, q.RequiredBy
	}
	return seen
}

// hasWaited reports whether commits have waited for us; control files of before this was kept know it only of those that do now.
func (q Quorum) hasWaited() bool { return q.Waited || q.Synchronous }

func (q Quorum) stricter(than Quorum) bool {
	if q.Unbounded != than.Unbounded {
		return q.Unbounded
	}
	return q.Required > than.Required
}

// sameFacts reports whether two readings differ in nothing but their time.
func (q Quorum) sameFacts(o Quorum) bool {
	return q.TLI == o.TLI && q.Raw == o.Raw && q.Required == o.Required && q.Unbounded == o.Unbounded && q.Synchronous == o.Synchronous && q.Waited == o.Waited
}

// SealableAlone reports whether one node's word is enough to seal, and if not,
// why, and what to do instead. name is the node's application_name. That the
// source does not wait for this node now changes nothing for the commits that
// were made while it did.
func (q Quorum) SealableAlone(name string) error {
	switch {
	case q.Unbounded:
		return fmt.Errorf("synchronous_standby_names was %q: any standby may hold commits that this node lacks; "+
			"promote the standby that is furthest, or seal with --accept-data-loss", q.RequiredBy)
	case q.Required > 1:
		n, others := q.others(name)
		return fmt.Errorf("synchronous_standby_names was %q: %d of %d standbys have to vouch for the end, and this node is one; "+
			"commits may lie on %s only: promote the furthest of those servers instead, or seal with --accept-data-loss",
			q.RequiredBy, q.Required, n, strings.Join(others, ", "))
	}
	return nil
}

// others returns how many standbys the strictest setting has, and those that are
// not name.
func (q Quorum) others(name string) (n int, names []string) {
	s, err := pg.ParseSyncStandbyNames(q.RequiredBy)
	if err != nil {
		return 0, []string{"other servers"} // it was read without an error once
	}
	return s.N(), slices.DeleteFunc(s.Names, func(n string) bool { return strings.EqualFold(n, name) })
}

// quorumOf returns the quorum kept for a TLI.
func quorumOf(qs []Quorum, tli pg.TLI) (Quorum, bool) {
	for _, q := range qs {
		if q.TLI == tli {
			return q, true
		}
	}
	return Quorum{}, false
}
