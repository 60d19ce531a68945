package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sluicewal/sluice/internal/pg"
)

// Survey is what the store has of a file and knows about its timeline. What it does not know is zero.
type Survey struct {
	// History leads to the newest TLI that was claimed, or that has a segment.
	History pg.History
	// WholeEnd is the end of a whole segment on that TLI, or of one that leads to it: all below is committed, for only
	// segments below the commit LSN are uploaded. It is the highest such end wherever the segment that was asked for is
	// not there.
	WholeEnd pg.LSN
	// Oldest is the start of the oldest segment, whole or open, if more was looked at than the one that was asked for.
	Oldest pg.LSN
	Seals  map[pg.TLI]pg.LSN
	// HasHistory says that the history that was asked for is there.
	HasHistory bool
	// Segments holds how far each TLI's segment with the number that was asked for reaches.
	Segments map[pg.TLI]pg.LSN
	// Damaged holds, by TLI, the whole segments with that number that are there and are not what was written. They are not in
	// Segments, and are something else than missing: they were uploaded once.
	Damaged map[pg.TLI]*DamagedError
}

// SurveyHistory says what the store knows about a TLI's history.
func (t *Timeline) SurveyHistory(ctx context.Context, tli pg.TLI) (Survey, error) {
	s, err := t.decisions(ctx)
	if err != nil {
		return Survey{}, err
	}
	switch _, err := t.History(ctx, tli); {
	case err == nil:
		s.HasHistory = true
		return s, t.store.Confirm(ctx)
	case !errors.Is(err, fs.ErrNotExist):
		return Survey{}, err
	}
	err = t.surveyAll(ctx, &s, nil)
	return s, err
}

// SurveySegment says what the store has of the segments with a number. Where the one that a recovery wants is there, that
// takes a few requests; otherwise everything is listed, because what is missing may be a hole.
func (t *Timeline) SurveySegment(ctx context.Context, n pg.SegNo) (Survey, error) {
	s, err := t.decisions(ctx)
	if err != nil {
		return Survey{}, err
	}
	s.Segments, s.Damaged = map[pg.TLI]pg.LSN{}, map[pg.TLI]*DamagedError{}
	newest := NewestAt(s.History, n, t.layout.size)
	there, err := t.has(ctx, newest, n)
	if err != nil {
		return Survey{}, err
	}
	if !there {
		err := t.surveyAll(ctx, &s, &n)
		return s, err
	}
	if err := t.surveyNumber(ctx, &s, n, newest); err != nil {
		return Survey{}, err
	}
	return s, t.store.Confirm(ctx)
}

// surveyNumber looks for the segments with a number on each TLI of the line, whole and open; that of whole is known to be there.
func (t *Timeline) surveyNumber(ctx context.Context, s *Survey, n pg.SegNo, whole pg.TLI) error {
	partials, err := t.Partials(ctx)
	if err != nil {
		return err
	}
	end := t.layout.size.Start(n + 1)
	for _, tli := range line(s.History) {
		there := tli == whole
		if !there {
			if there, err = t.has(ctx, tli, n); err != nil {
				return err
			}
		}
		if there {
			s.Segments[tli], s.WholeEnd = end, end
		} else if p, found := farthest(partials, tli, n); found {
			s.Segments[tli] = p.End
		}
	}
	t.surveyDamage(s, n)
	return nil
}

// surveyDamage adds what is known by now of the whole segments with a number.
func (t *Timeline) surveyDamage(s *Survey, n pg.SegNo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, d := range t.damaged {
		if name := t.layout.parse(key); name.kind == wholeSegment && name.segNo == n {
			s.Damaged[name.tli] = d
		}
	}
}

// line lists the TLIs of a history, oldest first.
func line(h pg.History) []pg.TLI {
	var all []pg.TLI
	for _, f := range h.Forks {
		all = append(all, f.TLI)
	}
	return append(all, h.TLI)
}

// decisions reads what was claimed and sealed. Without a claim the first TLI is taken to be 1.
func (t *Timeline) decisions(ctx context.Context) (Survey, error) {
	claims, err := t.Claims(ctx)
	if err != nil {
		return Survey{}, err
	}
	seals, err := t.Seals(ctx)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{History: pg.History{TLI: 1}, Seals: map[pg.TLI]pg.LSN{}}
	for _, d := range seals {
		s.Seals[d.TLI] = d.End
	}
	if len(claims) > 0 {
		newest := claims[len(claims)-1]
		s.History, err = pg.ParseHistory(newest.TLI, newest.History)
	}
	return s, err
}

// surveyAll looks at everything that is there; n is the number of the segment that was asked for, or nil.
func (t *Timeline) surveyAll(ctx context.Context, s *Survey, n *pg.SegNo) error {
	l, err := t.List(ctx)
	if err != nil {
		return err
	}
	if err := t.addNewest(ctx, s, l); err != nil {
		return err
	}
	for _, o := range l.Segments {
		end := t.layout.size.Start(o.SegNo + 1)
		if NewestAt(s.History, o.SegNo, t.layout.size) == o.TLI {
			s.WholeEnd = max(s.WholeEnd, end)
		}
		if n != nil && o.SegNo == *n {
			s.Segments[o.TLI] = end
		}
	}
	if len(l.Segments) > 0 {
		s.Oldest = t.layout.size.Start(l.Segments[0].SegNo)
	}
	if n != nil {
		t.surveyDamage(s, *n)
	}
	for _, p := range l.Partials {
		if start := t.layout.size.Start(p.SegNo); s.Oldest == 0 || start < s.Oldest {
			s.Oldest = start
		}
		if n != nil && p.SegNo == *n {
			s.Segments[p.TLI] = max(s.Segments[p.TLI], p.End)
		}
	}
	// Last, because all above may have said "not there" of a store that went away meanwhile.
	return t.store.Confirm(ctx)
}

// addNewest moves the history to a TLI that nobody claimed: the one that the timeline began on.
func (t *Timeline) addNewest(ctx context.Context, s *Survey, l Listing) error {
	newest := pg.TLI(0)
	for _, o := range l.Segments {
		newest = max(newest, o.TLI)
	}
	for _, p := range l.Partials {
		newest = max(newest, p.TLI)
	}
	for _, tli := range l.Histories {
		newest = max(newest, tli)
	}
	if newest == 0 && s.History.TLI == 1 {
		s.History = pg.History{} // nothing is there yet
	}
	if newest <= s.History.TLI {
		return nil
	}
	raw, err := t.History(ctx, newest)
	if err != nil {
		return fmt.Errorf("TLI %d is there without its history: %w", newest, asUnknown(err))
	}
	s.History, err = pg.ParseHistory(newest, raw)
	return err
}

// asUnknown hides that an error is a "does not exist" of something else than what was asked for.
func asUnknown(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is not there")
	}
	return err
}
