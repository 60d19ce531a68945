package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob"
)

// Config is what can be tuned of a store.
type Config struct {
	// Node is the id of this node; it names the probe, open segments, and who created what.
	Node string
	// ReadOnly opens the store without a probe, and creates nothing: to read WAL without being a node.
	ReadOnly bool
	// Timeout bounds each operation, beside the time that its bytes may take; 0: 30 s.
	Timeout time.Duration
	// MinRate is the speed in bytes per second below which a transfer is taken to hang; 0: 256 KiB/s.
	MinRate int64
	// Concurrency is how many segments the node uploads at once; 0: 4.
	Concurrency int
	// Log takes what the storage libraries have to say; nil: nothing.
	Log    *slog.Logger
	Events Events
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MinRate == 0 {
		c.MinRate = 256 << 10
	}
	if c.Concurrency == 0 {
		c.Concurrency = 4
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Store is object storage that honours "only if absent".
type Store struct {
	cfg     Config
	bucket  *blob.Bucket
	idle    func()     // closes idle connections; may be nil
	dir     *directory // of a file:// store; nil: another
	id      string     // of sluice.json; set before Open returns
	limit   limiter
	pending pending
	silent  atomic.Bool // the operation that ended last got no answer, or was denied
}

// Keys of the store itself. No tenant can have such a name: it has a dot.
const (
	storeKey    = "sluice.json"
	probePrefix = "sluice.probe."
)

// Open opens the store that a URL names: file:///dir, file://./dir, s3://, gs://, azblob:// or mem://, with gocloud.dev's
// parameters. It is ErrUnconditional if the store overwrites what is there, ErrDenied, ErrNoBucket, or says what else is
// wrong.
func Open(ctx context.Context, url string, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	o, err := openBucket(ctx, url, cfg)
	if err != nil {
		return nil, err
	}
	s := newStore(o, cfg)
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open object store: %w", err), s.Close())
	}
	return s, nil
}

func newStore(o opened, cfg Config) *Store {
	s := &Store{cfg: cfg, bucket: o.bucket, idle: o.idle, limit: newLimiter(cfg.Concurrency)}
	if o.root != "" {
		s.dir = &directory{root: o.root}
	}
	return s
}

// Close lets go of the store.
func (s *Store) Close() error {
	err := s.bucket.Close()
	if s.idle != nil {
		s.idle()
	}
	if err != nil {
		return fmt.Errorf("close object store: %w", err)
	}
	return nil
}

// ID returns the store's own id. Nodes that see different ones do not meet.
func (s *Store) ID() string { return s.id }

// Stats says what the store is doing now.
type Stats struct {
	Pending       int           // operations that run
	OldestPending time.Duration // age of the oldest of them; a histogram does not see what hangs
	Uploads       int           // segments that are being uploaded
	UploadLimit   int
	// Available says that the operation that ended last was answered: object storage can be reached, and lets us in.
	Available bool
}

// Stats may be called at any time.
func (s *Store) Stats() Stats {
	n, oldest := s.pending.oldest()
	return Stats{Pending: n, OldestPending: oldest, Uploads: s.limit.inUse(), UploadLimit: s.limit.size(), Available: !s.silent.Load()}
}

// begin finds out whether the store can be relied on, and who it is.
func (s *Store) begin(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return s.readID(ctx)
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the store's id: %w", err)
	}
	proposal, err := json.Marshal(storeFile{ID: id.String(), CreatedBy: s.cfg.Node, CreatedAt: time.Now().UTC()})
	if err != nil {
		return err
	}
	if _, err := s.decide(ctx, storeKey, proposal); err != nil {
		return err
	}
	return s.readID(ctx)
}

// probe writes one key twice. A store that takes the second write would let two nodes decide different things under one
// name, and neither would notice.
func (s *Store) probe(ctx context.Context) error {
	key := probePrefix + s.cfg.Node
	for range 2 {
		_, err := s.write(ctx, key, inMemory([]byte(uuid.NewString())))
		switch {
		case errors.Is(err, errExists):
			return s.probeKept(ctx, key)
		case err != nil:
			return fmt.Errorf("probe: %w", err)
		}
	}
	return fmt.Errorf("%w: %s was written twice, and the second time should have failed. Sluice cannot use this store; "+
		"S3 servers honour it since 2024, ask for an update", ErrUnconditional, key)
}

// probeKept sees to it that what was refused a second time is there.
func (s *Store) probeKept(ctx context.Context, key string) error {
	if _, err := s.read(ctx, key); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("probe: %w: %s", ErrNotStored, key)
	} else if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

// storeFile is the content of sluice.json.
type storeFile struct {
	ID        string    `json:"id"`
	CreatedBy string    `json:"created_by,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func (s *Store) readID(ctx context.Context) error {
	id, err := s.presentID(ctx)
	s.id = id
	return err
}

func (s *Store) presentID(ctx context.Context) (string, error) {
	raw, err := s.read(ctx, storeKey)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is no %s in it; is it the right one, and mounted?", ErrNoBucket, storeKey)
	}
	if err != nil {
		return "", err
	}
	var f storeFile
	if err := json.Unmarshal(raw, &f); err != nil || f.ID == "" {
		return "", &DamagedError{Key: storeKey, Reason: "it has no id"}
	}
	return f.ID, nil
}

// Confirm asks whether the store is still the one that was opened. Whoever is about to say that something does not exist
// asks first: a file system that is no longer mounted, or a bucket that was made anew, has nothing either.
func (s *Store) Confirm(ctx context.Context) error {
	id, err := s.presentID(ctx)
	if err == nil && id != s.id {
		return fmt.Errorf("%w: its id is %s, and that of the store which was opened %s", ErrNoBucket, id, s.id)
	}
	return err
}
