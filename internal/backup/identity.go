package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Identity is what all nodes of a timeline have in common. It is decided once for each life of the timeline, by whoever
// writes it first.
type Identity struct {
	Incarnation string `json:"incarnation"`
	// Revived is how often the incarnation came back after its end. Each time it has a tombstone of its own: a node that
	// missed it ends, with the old one, what has ended already.
	Revived     int            `json:"revived,omitempty"`
	SystemID    uint64         `json:"system_identifier,string"`
	SegmentSize pg.SegmentSize `json:"segment_size"`
	Compression Compression    `json:"compression"`
	CreatedBy   string         `json:"created_by,omitempty"` // the node
	CreatedAt   time.Time      `json:"created_at"`
}

// An OtherClusterError says that a timeline keeps another cluster, or one with other segments.
type OtherClusterError struct {
	Timeline     string
	Ours, Theirs Identity
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("timeline %s in object storage keeps the cluster %d with segments of %s (incarnation %s), and the source is the cluster %d "+
		"with segments of %s: give it another name, or delete the one in object storage",
		e.Timeline, e.Theirs.SystemID, e.Theirs.SegmentSize, e.Theirs.Incarnation, e.Ours.SystemID, e.Ours.SegmentSize)
}

// lifeKey returns the key of a timeline's n-th life, from 1.
func lifeKey(tenant, timeline string, life int) string {
	if life == 1 {
		return fmt.Sprintf("%s/%s/timeline.json", tenant, timeline)
	}
	return fmt.Sprintf("%s/%s/timeline.%d.json", tenant, timeline, life)
}

// Find returns the newest life of a timeline: fs.ErrNotExist if there never was one, ErrDeleted (beside its identity) if it
// has ended.
func (s *Store) Find(ctx context.Context, tenant, timeline string) (Identity, error) {
	id, _, err := s.newest(ctx, tenant, timeline)
	return id, err
}

func (s *Store) newest(ctx context.Context, tenant, timeline string) (id Identity, life int, err error) {
	return s.lives(ctx, tenant, timeline, func(Identity) {})
}

// lives goes through the lives one by one, up to the newest: a new one begins only where the one before has ended, and a
// listing may be late.
func (s *Store) lives(ctx context.Context, tenant, timeline string, visit func(Identity)) (id Identity, life int, err error) {
	for life = 1; ; life++ {
		next, err := s.readIdentity(ctx, lifeKey(tenant, timeline, life))
		switch {
		case errors.Is(err, fs.ErrNotExist) && life > 1:
			return id, life - 1, fmt.Errorf("timeline %s/%s, incarnation %s: %w", tenant, timeline, id.Incarnation, ErrDeleted)
		case err != nil:
			return Identity{}, 0, err
		}
		id = next
		visit(id)
		deleted, err := s.deleted(ctx, tenant, timeline, id)
		if err != nil || !deleted {
			return id, life, err
		}
	}
}

// Timelines lists the names of the timelines of a tenant that were ever begun, sorted; those that have ended, too.
func (s *Store) Timelines(ctx context.Context, tenant string) ([]string, error) {
	var names []string
	err := s.listDirectories(ctx, tenant+"/", func(name string) { names = append(names, name) })
	slices.Sort(names)
	return names, err
}

func (s *Store) readIdentity(ctx context.Context, key string) (Identity, error) {
	raw, err := s.read(ctx, key)
	if err != nil {
		return Identity{}, err
	}
	return decodeIdentity(key, raw)
}

func decodeIdentity(key string, raw []byte) (Identity, error) {
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return Identity{}, &DamagedError{Key: key, Reason: err.Error()}
	}
	if id.Incarnation == "" || id.Revived < 0 || id.SystemID == 0 || !id.SegmentSize.Valid() || !id.Compression.Valid() {
		return Identity{}, &DamagedError{Key: key, Reason: "it lacks an incarnation, a system identifier, a segment size or a compression"}
	}
	return id, nil
}

// Adopt returns the identity of a timeline: the one that is there, or the proposal, if none is. Of many that propose at once
// one wins, and all get the same. It is ErrDeleted where the newest life has ended, unless again says that an operator wants
// another; and an *OtherClusterError where the timeline keeps another cluster than the proposal.
func (s *Store) Adopt(ctx context.Context, tenant, timeline string, proposal Identity, again bool) (Identity, error) {
	if _, err := encodeIdentity(proposal); err != nil {
		return Identity{}, err
	}
	for {
		id, life, err := s.newest(ctx, tenant, timeline)
		switch {
		case err == nil:
			return id, proposal.matches(tenant+"/"+timeline, id)
		case errors.Is(err, ErrDeleted) && !again, !errors.Is(err, ErrDeleted) && !errors.Is(err, fs.ErrNotExist):
			return Identity{}, err
		case id.Incarnation == proposal.Incarnation:
			return Identity{}, fmt.Errorf("%w; another life needs another incarnation", err)
		}
		if err := s.beginLife(ctx, lifeKey(tenant, timeline, life+1), proposal); err != nil {
			return Identity{}, err
		}
	}
}

// beginLife proposes an identity; who won is read by the next look.
func (s *Store) beginLife(ctx context.Context, key string, proposal Identity) error {
	proposal.CreatedBy, proposal.CreatedAt = s.cfg.Node, time.Now().UTC()
	raw, err := encodeIdentity(proposal)
	if err != nil {
		return err
	}
	_, err = s.decide(ctx, key, raw)
	return err
}

// encodeIdentity refuses a proposal that could not be read again.
func encodeIdentity(id Identity) ([]byte, error) {
	raw, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	if _, err := decodeIdentity("proposal", raw); err != nil {
		return nil, fmt.Errorf("propose an identity: %w", err)
	}
	return raw, nil
}

func (id Identity) matches(timeline string, theirs Identity) error {
	if id.SystemID != theirs.SystemID || id.SegmentSize != theirs.SegmentSize {
		return &OtherClusterError{Timeline: timeline, Ours: id, Theirs: theirs}
	}
	return nil
}

// Tombstone is the end of a life.
type Tombstone struct {
	By          string    `json:"by"` // the node
	At          time.Time `json:"at"`
	KeepObjects bool      `json:"keep_objects"` // an attach that names the incarnation finds them again
}

func incarnationPrefix(tenant, timeline, incarnation string) string {
	return fmt.Sprintf("%s/%s/%s/", tenant, timeline, incarnation)
}

func (id Identity) tombstone(tenant, timeline string) string {
	return incarnationPrefix(tenant, timeline, id.Incarnation) + tombstoneOf(id.Revived)
}

func (s *Store) deleted(ctx context.Context, tenant, timeline string, id Identity) (bool, error) {
	_, err := s.size(ctx, id.tombstone(tenant, timeline))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) tombstone(ctx context.Context, key string) (Tombstone, error) {
	raw, err := s.read(ctx, key)
	if err != nil {
		return Tombstone{}, err
	}
	return decodeTombstone(key, raw)
}

// Tombstone is how this life has ended, after it came back as often as its identity says; fs.ErrNotExist if it goes on.
func (t *Timeline) Tombstone(ctx context.Context) (Tombstone, error) {
	return t.store.tombstone(ctx, t.prefix+tombstoneOf(t.identity.Revived))
}

func decodeTombstone(key string, raw []byte) (Tombstone, error) {
	var stone Tombstone
	if err := json.Unmarshal(raw, &stone); err != nil {
		return Tombstone{}, &DamagedError{Key: key, Reason: err.Error()}
	}
	return stone, nil
}

// Revive begins another life of a timeline with the incarnation, and so with all objects, of one that has ended. It returns
// the identity that counts, which is there already where somebody was faster, or where that life goes on. It is ErrAlive
// while another one goes on, ErrNotKept where the objects were to go, and fs.ErrNotExist where no life has that incarnation.
//
// Whether objects may go and whether they may come back is one word, that of the tombstone, which is written once: nobody
// removes what somebody revives at that moment.
func (s *Store) Revive(ctx context.Context, tenant, timeline, incarnation string) (Identity, error) {
	for {
		var last Identity
		newest, life, err := s.lives(ctx, tenant, timeline, func(id Identity) {
			if id.Incarnation == incarnation {
				last = id
			}
		})
		switch {
		case err == nil && newest.Incarnation == incarnation:
			return newest, nil
		case err == nil:
			return Identity{}, fmt.Errorf("%w: its incarnation is %s", ErrAlive, newest.Incarnation)
		case !errors.Is(err, ErrDeleted):
			return Identity{}, err
		case last.Incarnation == "":
			return Identity{}, fmt.Errorf("timeline %s/%s never had the incarnation %s: %w", tenant, timeline, incarnation, fs.ErrNotExist)
		}
		stone, err := s.tombstone(ctx, last.tombstone(tenant, timeline))
		switch {
		case err != nil:
			return Identity{}, asUnknown(err)
		case !stone.KeepObjects:
			return Identity{}, fmt.Errorf("incarnation %s, deleted by node %s at %s: %w", incarnation, stone.By, stone.At.Format(time.RFC3339), ErrNotKept)
		}
		last.Revived++
		if err := s.beginLife(ctx, lifeKey(tenant, timeline, life+1), last); err != nil {
			return Identity{}, err
		}
	}
}
