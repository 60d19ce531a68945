package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Seal is the end of a TLI, decided once.
type Seal struct {
	TLI pg.TLI `json:"tli"`
	// End is the record end that nothing above is ever served of.
	End pg.LSN    `json:"end"`
	By  string    `json:"by"` // the node that wrote it
	At  time.Time `json:"at"`
	// DataLossAccepted says that not enough nodes were asked: acknowledged commits may lie above End.
	DataLossAccepted bool `json:"data_loss_accepted,omitempty"`
}

// DecideSeal writes a seal if its TLI has none, and returns the one that is there: the first that was written, for ever.
func (t *Timeline) DecideSeal(ctx context.Context, proposal Seal) (Seal, error) {
	proposal.By, proposal.At = t.store.cfg.Node, time.Now().UTC()
	raw, err := json.Marshal(proposal)
	if err != nil {
		return Seal{}, err
	}
	key := tliKey(sealDir, proposal.TLI)
	decided, err := t.store.decide(ctx, t.prefix+key, raw)
	if err != nil {
		return Seal{}, fmt.Errorf("decide the end of TLI %d: %w", proposal.TLI, err)
	}
	return t.decodeSeal(ctx, key, decided)
}

// Seal returns the seal of a TLI; fs.ErrNotExist if there is none.
func (t *Timeline) Seal(ctx context.Context, tli pg.TLI) (Seal, error) {
	key := tliKey(sealDir, tli)
	raw, err := t.store.read(ctx, t.prefix+key)
	if err != nil {
		return Seal{}, err
	}
	return t.decodeSeal(ctx, key, raw)
}

func (t *Timeline) decodeSeal(ctx context.Context, key string, raw []byte) (Seal, error) {
	var s Seal
	if err := json.Unmarshal(raw, &s); err != nil || tliKey(sealDir, s.TLI) != key || s.End == 0 {
		return Seal{}, t.quarantine(ctx, key, "it is no seal of that TLI")
	}
	t.sound(key)
	return s, nil
}

// Seals returns all seals.
func (t *Timeline) Seals(ctx context.Context) ([]Seal, error) {
	return decided(ctx, t, sealDir, seal, t.Seal)
}

// Unseal takes a seal back. Whether that may be done is for the caller to know: [Timeline.TailServed] is asked before, and
// once more after it, because the tail may have gone out meanwhile. That there is none is fine.
func (t *Timeline) Unseal(ctx context.Context, tli pg.TLI) error {
	return t.store.remove(ctx, t.prefix+tliKey(sealDir, tli))
}

// MarkTailServed makes durable that what the seal of a TLI lets out was handed out: from now on somebody may have promoted
// from it, and the seal must not be taken back. It is called before the first byte leaves. Doing it twice is fine.
//
// The seal is looked at once more after the mark is there: whoever takes it back does the reverse, so that one of the two
// sees the other. It is fs.ErrNotExist if it was taken back.
func (t *Timeline) MarkTailServed(ctx context.Context, tli pg.TLI) error {
	raw, err := json.Marshal(served{By: t.store.cfg.Node, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	if _, err := t.store.decide(ctx, t.prefix+tliKey(servedDir, tli), raw); err != nil {
		return fmt.Errorf("mark the tail of TLI %d as handed out: %w", tli, err)
	}
	_, err = t.Seal(ctx, tli)
	return err
}

// served is who handed out a tail first.
type served struct {
	By string    `json:"by,omitempty"` // the node; empty: a restore without one
	At time.Time `json:"at"`
}

// TailServed reports whether what the seal of a TLI lets out was handed out, by anybody who marked it here.
func (t *Timeline) TailServed(ctx context.Context, tli pg.TLI) (bool, error) {
	_, err := t.store.size(ctx, t.prefix+tliKey(servedDir, tli))
	if errors.Is(err, fs.ErrNotExist) {
		return false, t.store.Confirm(ctx)
	}
	return err == nil, err
}

// Claim is the promotion that a TLI came from. Two servers that were promoted from the same bytes choose the same number
// and write the same history; the first record above the fork tells them apart, because it has the time of the promotion.
type Claim struct {
	TLI     pg.TLI    `json:"tli"`
	History []byte    `json:"history"` // the history file as the source has it
	Record  []byte    `json:"record"`  // digest of the first record above the fork
	By      string    `json:"by"`      // the node that wrote it
	At      time.Time `json:"at"`
}

// A ClaimedError says that another promotion has a TLI's number.
type ClaimedError struct{ Ours, Theirs Claim }

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("TLI %d belongs to another promotion: node %s followed the one with first record %x (history %q), and this source has %x "+
		"(history %q); two servers were promoted, and only one of them can be the timeline's",
		e.Ours.TLI, e.Theirs.By, short(e.Theirs.Record), e.Theirs.History, short(e.Ours.Record), e.Ours.History)
}

func short(b []byte) []byte { return b[:min(len(b), 8)] }

// equal reports whether two claims are of one promotion, as far as both know: a node that began above the fork does not
// have the record.
func (c Claim) equal(o Claim) bool {
	unknown := len(c.Record) == 0 || len(o.Record) == 0
	return c.TLI == o.TLI && string(c.History) == string(o.History) && (unknown || string(c.Record) == string(o.Record))
}

// Claim says that a TLI was followed; *ClaimedError if it belongs to another promotion. Doing it twice is fine.
func (t *Timeline) Claim(ctx context.Context, c Claim) error {
	if _, err := pg.ParseHistory(c.TLI, c.History); err != nil {
		return err
	}
	c.By, c.At = t.store.cfg.Node, time.Now().UTC()
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := tliKey(claimDir, c.TLI)
	there, err := t.store.decide(ctx, t.prefix+key, raw)
	if err != nil {
		return fmt.Errorf("claim TLI %d: %w", c.TLI, err)
	}
	theirs, err := t.decodeClaim(ctx, key, there)
	if err == nil && !theirs.equal(c) {
		return &ClaimedError{Ours: c, Theirs: theirs}
	}
	return err
}

// ClaimOf returns who has a TLI's number; fs.ErrNotExist if nobody has.
func (t *Timeline) ClaimOf(ctx context.Context, tli pg.TLI) (Claim, error) {
	key := tliKey(claimDir, tli)
	raw, err := t.store.read(ctx, t.prefix+key)
	if err != nil {
		return Claim{}, err
	}
	return t.decodeClaim(ctx, key, raw)
}

func (t *Timeline) decodeClaim(ctx context.Context, key string, raw []byte) (Claim, error) {
	var c Claim
	if err := json.Unmarshal(raw, &c); err != nil || tliKey(claimDir, c.TLI) != key {
		return Claim{}, t.quarantine(ctx, key, "it is no claim of that TLI")
	}
	if _, err := pg.ParseHistory(c.TLI, c.History); err != nil {
		return Claim{}, t.quarantine(ctx, key, err.Error())
	}
	t.sound(key)
	return c, nil
}

// Claims returns all claims.
func (t *Timeline) Claims(ctx context.Context) ([]Claim, error) {
	return decided(ctx, t, claimDir, claim, t.ClaimOf)
}

// decided reads all of a directory of decisions, oldest TLI first.
func decided[T any](ctx context.Context, t *Timeline, dir string, k kind, read func(context.Context, pg.TLI) (T, error)) ([]T, error) {
	keys, err := t.keys(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []T
	for _, key := range keys {
		n := t.layout.parse(key)
		if n.kind != k {
			continue
		}
		one, err := read(ctx, n.tli)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken back since it was listed
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
