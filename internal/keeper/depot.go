package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
)

// StoreConfig says where a node backs up to; without a URL, nowhere.
type StoreConfig struct {
	URL         string
	Compression backup.Compression // of timelines that nobody has begun yet; "" = zstd
	// PartialInterval is how old the copy of an open segment may become.
	PartialInterval time.Duration
	// FollowInterval is how often a warm copy looks what is new; 0: 10 s.
	FollowInterval time.Duration
	Backup         backup.Config
}

const (
	// openStoreWithin bounds one try to open the store, and openStoreAgain is the
	// pause after one that failed: all timelines of the node ask.
	openStoreWithin = 15 * time.Second
	openStoreAgain  = time.Second
)

// depot is the node's object storage, opened when somebody needs it and it
// answers: a node whose object storage is away starts, and receives.
type depot struct {
	cfg   StoreConfig
	store atomic.Pointer[backup.Store] // nil while it could not be opened

	mu       sync.Mutex
	opening  chan struct{} // guarded by mu; not nil while somebody tries, closed when that ends
	failed   error         // guarded by mu; of the last try
	failedAt time.Time     // guarded by mu
	closed   bool          // guarded by mu
}

// newDepot returns nil if the node has no object storage.
func newDepot(cfg StoreConfig, nodeID string) *depot {
	if cfg.URL == "" {
		return nil
	}
	if cfg.Compression == "" {
		cfg.Compression = backup.Zstd
	}
	cfg.Backup.Node = nodeID
	return &depot{cfg: cfg}
}

// open returns the store. Of many who ask at once, one tries to open it.
func (d *depot) open(ctx context.Context) (*backup.Store, error) {
	for {
		if s := d.store.Load(); s != nil {
			return s, nil
		}
		try, busy, err := d.begin()
		switch {
		case err != nil:
			return nil, err
		case try != nil:
			return d.finish(ctx, try)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// begin lets one try; the others get what they wait for, or the error of a try
// that was a moment ago.
func (d *depot) begin() (try chan struct{}, busy <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, nil, errStopping
	case d.opening != nil:
		return nil, d.opening, nil
	case d.failed != nil && time.Since(d.failedAt) < openStoreAgain:
		return nil, nil, d.failed
	}
	d.opening = make(chan struct{})
	return d.opening, nil, nil
}

func (d *depot) finish(ctx context.Context, try chan struct{}) (*backup.Store, error) {
	within, cancel := context.WithTimeout(ctx, openStoreWithin)
	defer cancel()
	s, err := backup.Open(within, d.cfg.URL, d.cfg.Backup)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.closed {
		err = errors.Join(errStopping, s.Close())
	}
	d.failed, d.failedAt, d.opening = err, time.Now(), nil
	if err == nil {
		d.store.Store(s)
	}
	close(try)
	return d.store.Load(), err
}

// refused reports whether a store could not be opened for a reason that waiting
// does not change.
func refused(err error) bool {
	return errors.Is(err, backup.ErrUnconditional) || errors.Is(err, backup.ErrBadURL)
}

// problem is why the store could not be opened; nil while it is open, or nobody
// has tried.
func (d *depot) problem() error {
	if d.store.Load() != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// problemOrNil is problem, of a node without object storage too.
func (d *depot) problemOrNil() error {
	if d == nil {
		return nil
	}
	return d.problem()
}

// close lets go of the store. Whoever used it has left.
func (d *depot) close() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	s := d.store.Swap(nil)
	if s == nil {
		return nil
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("let go of object storage: %w", err)
	}
	return nil
}

// Store returns the node's object storage, if it is configured and open.
func (k *Keeper) Store() *backup.Store {
	if k.depot == nil {
		return nil
	}
	return k.depot.store.Load()
}

// StoreError says whether object storage is configured, and why it could not be
// opened.
func (k *Keeper) StoreError() (configured bool, err error) {
	if k.depot == nil {
		return false, nil
	}
	return true, k.depot.problem()
}
