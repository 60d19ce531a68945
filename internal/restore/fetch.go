package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Query asks a [Source] for a file by the name that PostgreSQL gave as %f. The flags are those of [Request].
type Query struct {
	Name           string
	Copy           bool
	AcceptDataLoss bool
}

// Source gives one of the three answers: a server, or directories that are read here.
type Source interface {
	Find(ctx context.Context, q Query) Found
}

// Fetch asks the sources and puts the file at path: written under a temporary name beside it, synced, renamed. The first source
// that has it gives it. It does not exist when every source says so; where loss is accepted, when one does.
//
// As long as nobody knows and asking again may help, it does, with growing pauses, until retryFor has passed; zero asks
// once. The wait ends with ctx.
func Fetch(ctx context.Context, q Query, path string, sources []Source, retryFor time.Duration) Decision {
	limit := backoff.WithMaxElapsedTime(retryFor)
	if retryFor <= 0 {
		limit = backoff.WithMaxTries(1)
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, longestPause
	d, err := backoff.Retry(ctx, func() (Decision, error) {
		d := fetchOnce(ctx, q, path, sources)
		if d.Kind == Unknown && d.Retry {
			return d, errAgain
		}
		return d, nil
	}, limit, backoff.WithBackOff(pause))
	if err != nil && !errors.Is(err, errAgain) {
		return Decision{Text: fmt.Sprintf("%v; %s", err, d.Text)}
	}
	return d
}

var errAgain = errors.New("asking again may help")

// The pauses between two attempts, before jitter.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

func fetchOnce(ctx context.Context, q Query, path string, sources []Source) Decision {
	var said []Decision
	for _, s := range sources {
		d := fetchFrom(ctx, q, path, s)
		if d.Kind == Present {
			return d
		}
		said = append(said, d)
	}
	return weigh(q, said)
}

func fetchFrom(ctx context.Context, q Query, path string, s Source) Decision {
	found := s.Find(ctx, q)
	if found.Kind != Present {
		return found.Decision
	}
	err := errors.Join(install(path, found.Body), found.Body.Close())
	if err == nil {
		return found.Decision
	}
	var cut *transferError
	return Decision{
		Reason: NotHeld, Retry: errors.As(err, &cut),
		Text: fmt.Sprintf("%s has it, but it could not be brought here: %v", list(found.From), err),
	}
}

// weigh makes one answer of several, none of which is the file. Whoever does not know may have it, so that all have to say that
// it does not exist; object storage that was asked by itself cannot say more than that it agrees.
func weigh(q Query, said []Decision) Decision {
	absent := slices.DeleteFunc(slices.Clone(said), func(d Decision) bool { return d.Kind != Absent })
	unknown := slices.DeleteFunc(slices.Clone(said), func(d Decision) bool { return d.Kind != Unknown })
	if len(absent) > 0 {
		unknown = slices.DeleteFunc(unknown, func(d Decision) bool { return d.Agrees })
	}
	switch {
	case len(said) == 0:
		return Decision{Reason: Unreachable, Text: "there is nobody to ask"}
	case len(unknown) == 0:
		return Decision{Kind: Absent, Text: texts(absent)}
	case len(absent) > 0 && q.AcceptDataLoss:
		return Decision{Kind: Absent, Text: fmt.Sprintf("%s; others could not tell: %s", texts(absent), texts(unknown))}
	}
	d := Decision{Reason: unknown[0].Reason, Text: texts(unknown)}
	if len(absent) > 0 {
		d.Text = fmt.Sprintf("%s. Another place says that it does not exist (%s): if the first is gone for good, leave it out", d.Text, texts(absent))
	}
	d.Retry = slices.ContainsFunc(unknown, func(d Decision) bool { return d.Retry })
	return d
}

func texts(said []Decision) string {
	var all []string
	for _, d := range said {
		all = append(all, d.Text)
	}
	return strings.Join(all, "; ")
}
