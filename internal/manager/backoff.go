package manager

import (
	"math/rand/v2"
	"time"
)

const (
	// firstRetry is the longest pause after a first failure.
	firstRetry = 100 * time.Millisecond
	// retryCap is the longest pause after any number of failures, for what commits
	// may wait for: work goes on within 5 s of the end of a fault.
	retryCap = 5 * time.Second
)

// backoff is the pause after so many failures in a row, at least one: twice as
// long each time, up to a cap, and by up to a half shorter, so that thousands of
// timelines that lost the same server do not come back at once. It is pure: seed
// and failures decide the jitter.
func backoff(failures int, seed uint64, longest time.Duration) time.Duration {
	full := firstRetry
	for range failures - 1 {
		if full >= longest {
			break
		}
		full *= 2
	}
	full = min(full, longest)
	jitter := rand.New(rand.NewPCG(seed, uint64(failures)))
	return full - time.Duration(jitter.Int64N(int64(full/2)))
}
