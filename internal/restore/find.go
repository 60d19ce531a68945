package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Found is the answer to a request, and the file if it is [Present].
type Found struct {
	Decision
	Body *Body // set if, and only if, the file is present; the caller closes it
}

// Close lets go of the file, if there is one; it was only read.
func (f *Found) Close() {
	if f.Body != nil {
		_ = f.Body.Close()
	}
}

// Find asks every place about the file, decides, and opens it where it may be handed out. What it hands out is verified; a
// damaged copy is passed over for one that is not, and named in the answer's Text.
//
// With [Decision.Tail] set, the caller makes that durable before it gives away the first byte.
func Find(ctx context.Context, req Request, nodes []Place, store Place, quorum Quorum) Found {
	f := finder{req: req, places: map[string]Place{}, answers: map[string]Answer{}}
	var said []Answer
	for _, n := range nodes {
		said = append(said, f.ask(ctx, n))
	}
	var stores *Answer
	if store != nil {
		a := f.ask(ctx, store)
		stores = &a
	}
	d := Choose(req, said, stores, quorum)
	if d.Kind != Present {
		return Found{Decision: d}
	}
	return f.open(ctx, d)
}

// finder remembers who said what, to open the file there.
type finder struct {
	req     Request
	places  map[string]Place
	answers map[string]Answer
}

func (f *finder) ask(ctx context.Context, p Place) Answer {
	a := p.Answer(ctx, f.req.File)
	f.places[a.From], f.answers[a.From] = p, a
	return a
}

// open takes the first copy that is good.
func (f *finder) open(ctx context.Context, d Decision) Found {
	var bad []error
	for i, from := range d.From {
		found, err := f.openAt(ctx, d, from)
		if err == nil {
			found.From = slices.Clone(d.From[i:])
			found.Text = join(found.Text, sentence(bad))
			return found
		}
		bad = append(bad, fmt.Errorf("%s: %w", from, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Found{Decision: noGoodCopy(bad)}
}

// noGoodCopy tells a file that is not what was written from one that could not be read, which may be over in a moment.
func noGoodCopy(bad []error) Decision {
	var damaged *DamagedError
	if !errors.As(errors.Join(bad...), &damaged) {
		return Decision{Reason: NotHeld, Text: "it could not be read: " + sentence(bad), Retry: true}
	}
	return Decision{Reason: Damaged, Text: "no good copy is left, and PostgreSQL would take a damaged one for the end of WAL (" + sentence(bad) +
		"). Look for the file elsewhere: in pg_wal of the old server, on another node, in a copy of the directory"}
}

// sentence puts errors on one line.
func sentence(errs []error) string {
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

// join puts two texts on one line, of which any may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// openAt opens a place's copy and verifies it.
func (f *finder) openAt(ctx context.Context, d Decision, from string) (Found, error) {
	if !d.Read.History {
		return f.openSegment(ctx, d, from)
	}
	raw, err := f.places[from].History(ctx, d.Read.TLI)
	if err != nil {
		return Found{}, err
	}
	body, err := historyBody(raw, d.Read.TLI)
	return Found{Decision: d, Body: body}, err
}

func (f *finder) openSegment(ctx context.Context, d Decision, from string) (Found, error) {
	place, said := f.places[from], f.answers[from]
	seg, err := place.OpenSegment(ctx, d.Read.TLI, d.Read.SegNo)
	if err != nil {
		return Found{}, err
	}
	stored, _ := seg.(Stored)
	v := &verifier{
		place: place, history: said.History, systemID: said.SystemID, file: d.Read, alone: stored != nil, buf: make([]byte, verifyBytes),
	}
	whole := padded{seg, d.Read.Start()}
	if d.Loss {
		if d, err = f.cut(ctx, v, whole, d); err != nil || d.Kind != Present {
			return Found{Decision: d}, errors.Join(err, seg.Close())
		}
	}
	body, err := segmentBody(ctx, v, whole, d.UpTo)
	if err != nil {
		return Found{}, errors.Join(err, seg.Close())
	}
	if d.Loss {
		d.Text = lossText(d, stored)
	}
	return Found{Decision: d, Body: body}, nil
}

// cut ends a segment that was open with its last complete record. Where no record is complete, there is nothing of it.
func (f *finder) cut(ctx context.Context, v *verifier, seg Segment, d Decision) (Decision, error) {
	end, err := v.recordEnd(ctx, seg, min(d.UpTo, seg.End()))
	if err != nil {
		return d, err
	}
	if end > d.Read.Start() {
		d.UpTo = end
		return d, nil
	}
	return Decision{Kind: Absent, Loss: true, Tail: d.Tail, Text: fmt.Sprintf("of what was stored of it no record is complete: the WAL ends at %s", end)}, nil
}

// lossText says what is given up.
func lossText(d Decision, seg Stored) string {
	what := fmt.Sprintf("WAL ends at %s", d.UpTo)
	if seg != nil {
		if node, at := seg.StoredBy(); node != "" {
			what += fmt.Sprintf(", as node %s stored it at %s", node, at.Format(time.RFC3339))
		}
	}
	return what + ": what came later is lost (--accept-data-loss)"
}

// verifyBytes is how much of a segment is read at once.
const verifyBytes = 256 << 10
