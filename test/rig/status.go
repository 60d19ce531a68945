package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Status is what the tests read of a timeline's JSON. The names are those of
// the API, written down a second time on purpose: a renamed key is a broken
// client, and fails here.
type Status struct {
	State    string     `json:"state"`
	Reason   string     `json:"reason"`
	TLI      pg.TLI     `json:"tli"`
	Seal     *Seal      `json:"seal"`
	Quorum   Quorum     `json:"quorum"`
	Diverged []Diverged `json:"diverged"`

	StartLSN  pg.LSN `json:"start_lsn"`
	WriteLSN  pg.LSN `json:"write_lsn"`
	FlushLSN  pg.LSN `json:"flush_lsn"`
	CommitLSN pg.LSN `json:"commit_lsn"`

	Source Source `json:"source"`
}

// Quorum is what the source's synchronous_standby_names said.
type Quorum struct {
	K           int       `json:"k"`
	N           int       `json:"n"`
	Synchronous bool      `json:"synchronous"`
	Qualified   bool      `json:"qualified"`
	ReadAt      time.Time `json:"read_at"`
	Text        string    `json:"text"`
	Why         string    `json:"why"`
}

// Diverged is WAL that is no part of the history that was followed.
type Diverged struct {
	TLI  pg.TLI `json:"tli"`
	From pg.LSN `json:"from"`
	To   pg.LSN `json:"to"`
	Path string `json:"path"`
}

// Source is the connection to the primary.
type Source struct {
	Connected bool   `json:"connected"`
	State     string `json:"state"`
	Error     string `json:"error"`
}

// Status asks the node about the timeline.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	code, body, err := n.Get(ctx, "/v1/tenants/acme/timelines/main")
	if err != nil {
		return s, err
	}
	if code != http.StatusOK {
		return s, fmt.Errorf("the timeline's status: %d: %s", code, body)
	}
	return s, json.Unmarshal(body, &s)
}

// AwaitStatus waits until the timeline's status is as wanted; what says so in
// the error.
func (n *Node) AwaitStatus(ctx context.Context, what string, wanted func(Status) bool) (s Status, err error) {
	err = Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		// A node that does not answer now may answer in a moment.
		now, statusErr := n.Status(ctx)
		if statusErr != nil {
			return false, nil //nolint:nilerr // the context bounds the wait
		}
		s = now
		return wanted(s), nil
	})
	if err != nil {
		return s, fmt.Errorf("wait until %s: %w; last status: %+v", what, err, s)
	}
	return s, nil
}
