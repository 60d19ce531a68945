package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		body, err := f.openAt(ctx, d, from)
		if err == nil {
			d.From = slices.Clone(d.From[i:])
			d.Text = sentence(bad)
			return Found{Decision: d, Body: body}
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

// openAt opens a place's copy and verifies it.
func (f *finder) openAt(ctx context.Context, d Decision, from string) (*Body, error) {
	place, said := f.places[from], f.answers[from]
	if d.Read.History {
		raw, err := place.History(ctx, d.Read.TLI)
		if err != nil {
			return nil, err
		}
		return historyBody(raw, d.Read.TLI)
	}
	seg, err := place.OpenSegment(ctx, d.Read.TLI, d.Read.SegNo)
	if err != nil {
		return nil, err
	}
	v := &verifier{place: place, history: said.History, systemID: said.SystemID, file: d.Read, buf: make([]byte, verifyBytes)}
	body, err := segmentBody(ctx, v, padded{seg, d.Read.Start()}, d.UpTo)
	if err != nil {
		return nil, errors.Join(err, seg.Close())
	}
	return body, nil
}

// verifyBytes is how much of a segment is read at once.
const verifyBytes = 256 << 10
