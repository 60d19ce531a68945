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

	BackupLSN pg.LSN `json:"backup_lsn"`

	Incarnation string `json:"incarnation"`
	// SystemIdentifier is the cluster's, in decimal; empty until a source was seen.
	SystemIdentifier string  `json:"system_identifier"`
	Backup           *Backup `json:"backup"`
	Tasks            []Task  `json:"tasks"`
	Source           Source  `json:"source"`

	Offloader *Offloader `json:"offloader"`
	Peers     []Peer     `json:"peers"`
}

// Offloader is the node whose turn it is to back the timeline up.
type Offloader struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// Peer is another node that keeps the timeline.
type Peer struct {
	Node   string `json:"node"`
	Silent bool   `json:"silent"`
}

// Backup is what is known of object storage; nil without one.
type Backup struct {
	Available bool     `json:"available"`
	Error     string   `json:"error"`
	LagBytes  *int64   `json:"lag_bytes"`
	Partial   *Partial `json:"partial"`
}

// Partial is the copy of the open segment.
type Partial struct {
	TLI pg.TLI    `json:"tli"`
	End pg.LSN    `json:"end"`
	At  time.Time `json:"at"`
}

// Task is one of the timeline's tasks.
type Task struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Restarts  int64  `json:"restarts"`
	LastError string `json:"last_error"`
}

// Task finds a task by its name; the zero value if there is none.
func (s Status) Task(name string) Task {
	for _, t := range s.Tasks {
		if t.Name == name {
			return t
		}
	}
	return Task{}
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
