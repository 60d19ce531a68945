package timeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
)

// walDir is the directory of a timeline that holds WAL as PostgreSQL names it.
const walDir = "wal"

var (
	// ErrShuttingDown says that the timeline accepts no more users: it stops,
	// for the process or for its deletion.
	ErrShuttingDown = errors.New("timeline is shutting down")
	// ErrBroken says that the timeline's directory is damaged.
	ErrBroken = errors.New("timeline is broken")
	// ErrSealing says that a seal is being decided: nothing may be received.
	ErrSealing = errors.New("timeline is being sealed")
	// ErrEmpty says that no WAL was ever received.
	ErrEmpty = errors.New("timeline holds no WAL yet")
)

// Config is what a timeline needs of its node.
type Config struct {
	// Dir is the timeline's own directory.
	Dir string
	FS  wal.FS
	// NodeID is also the application_name that synchronous_standby_names has.
	NodeID string
	Gate   gate.Config
	WAL    wal.Events
	// DecideSeal decides an end where the nodes of the timeline meet, and returns
	// the one that was decided, now or before; nil: this node decides alone.
	DecideSeal func(context.Context, Seal) (Seal, error)
	// CommitBound tells what the other nodes have; nil: there are none.
	CommitBound CommitBound
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Timeline is one timeline on this node. Make one with [Create] or [Open].
type Timeline struct {
	id   ID
	cfg  Config
	ctx  context.Context //nolint:containedctx // this type is a lifetime
	stop context.CancelCauseFunc
	gate *gate.Gate
	wake *Wake

	visits *Visits

	// control is what is durable; replaced as a whole by update alone.
	control atomic.Pointer[Control]
	// saving is held over a save of the control file: a lock that a wait can
	// leave when it is cancelled.
	saving chan struct{}
	closed bool // guarded by saving; nothing is written any more
	saved  atomic.Pointer[savedAt]

	// log is nil until the segment size is known, and never replaced after.
	log atomic.Pointer[wal.Log]

	said  atomic.Uint64         // how often the peers have said something
	bound atomic.Pointer[bound] // what follows from that; nil before anybody asked

	mu         sync.Mutex
	state      State         // guarded by mu; see transitions
	why        error         // guarded by mu; the reason of a state that has one
	sealing    int           // guarded by mu; seals being decided
	draining   bool          // guarded by mu; see SetDraining
	backedUp   pg.Position   // guarded by mu; see BackedUp
	backedUpAt time.Time     // guarded by mu; when that was noted
	writing    chan struct{} // guarded by mu; not nil while somebody writes to the log, closed when that has left
	quorum     Quorum        // guarded by mu; the last reading, also when it changed nothing durable
	operation  Operation     // guarded by mu; zero when there is none
	learned    []string      // guarded by mu; nodes that keep this timeline and that the control file does not have

	sourceGeneration atomic.Uint64
}

// Operation is a lifecycle operation under way.
type Operation struct {
	Name  string
	Step  string
	Since time.Time
}

// savedAt is when the control file was last saved, and with which positions.
type savedAt struct {
	at            time.Time
	flush, backup pg.Position
}

func savedNow(at time.Time, c *Control) *savedAt {
	s := &savedAt{at: at, flush: c.Flush}
	if c.Stored != nil {
		s.backup = c.Stored.Backup
	}
	return s
}

// Creation is what a timeline begins with.
type Creation struct {
	Source     string // "": it waits for one
	FileSource string // see [Control.FileSource]
	New, Again bool   // see [Control]
	// Met is what object storage has decided about it; nil: nothing was asked.
	Met *Meeting
}

// Create makes a timeline's directory, atomically, and opens it.
func Create(ctx context.Context, cfg Config, id ID, with Creation) (*Timeline, error) {
	incarnation, err := NewIncarnation()
	if err != nil {
		return nil, err
	}
	c := Control{
		Tenant: id.Tenant, Timeline: id.Name, Incarnation: incarnation, CreatedAt: cfg.now().UTC(),
		Source: with.Source, FileSource: with.FileSource, New: with.New, Again: with.Again, Clean: true,
	}
	if with.Met != nil {
		c.meet(*with.Met)
	}
	if err := makeDir(cfg.FS, cfg.Dir, c); err != nil {
		return nil, fmt.Errorf("create timeline %s: %w", id, err)
	}
	return Open(ctx, cfg, id)
}

// makeDir fills a temporary directory and renames it: a crash leaves either
// nothing that Open would find, or all of it; an error leaves nothing.
func makeDir(fsys wal.FS, dir string, c Control) error {
	tmp := filepath.Join(filepath.Dir(dir), TempPrefix+string(c.Incarnation))
	if err := fillDir(fsys, tmp, c); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	if err := fsys.Rename(tmp, dir); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return errors.Join(err, removeDir(fsys, dir, tmp))
	}
	return nil
}

func fillDir(fsys wal.FS, dir string, c Control) error {
	if err := fsys.MkdirAll(filepath.Join(dir, walDir)); err != nil {
		return err
	}
	if err := saveControl(fsys, dir, c); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// removeDir removes a timeline's directory, under a name that the next start
// removes if a crash does not let this one. It can be repeated.
func removeDir(fsys wal.FS, dir, tmp string) error {
	if err := fsys.Rename(dir, tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return fsys.RemoveAll(tmp)
}

// TempPrefix begins the names of directories that a crash may have left behind:
// a timeline half made or half removed. No timeline's name begins so.
const TempPrefix = ".tmp-"

// Open opens the timeline in cfg.Dir; its context ends with ctx. A directory
// that cannot be used gives a timeline that is broken, not an error, so that it
// can be seen, and one whose life has ended elsewhere is stopped; an error means that
// there is no control file, or none of this timeline.
func Open(ctx context.Context, cfg Config, id ID) (*Timeline, error) {
	t, err := load(ctx, cfg, id)
	if err != nil {
		return nil, err
	}
	if why := t.Control().ended(); why != nil {
		t.move(StateStopped, why)
	} else {
		t.start()
	}
	return t, nil
}

// start opens the WAL.
func (t *Timeline) start() {
	if err := t.openLog(*t.Control()); err != nil {
		t.move(StateBroken, err)
	} else {
		t.move(StateRunning, nil)
	}
	t.quorum = t.Control().QuorumOf(t.tli())
}

// load reads the control file of a timeline, and nothing else.
func load(ctx context.Context, cfg Config, id ID) (*Timeline, error) {
	c, err := LoadControl(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	if c.ID() != id {
		return nil, fmt.Errorf("%s has the control file of timeline %s, and its place is that of %s: it was copied or renamed; put it back", cfg.Dir, c.ID(), id)
	}
	t := newTimeline(ctx, cfg, id)
	t.control.Store(&c)
	t.saved.Store(savedNow(cfg.now(), &c))
	return t, nil
}

// OpenBroken stands for a directory whose control file cannot be read, so that
// it is seen, and does not disturb the others.
func OpenBroken(ctx context.Context, cfg Config, id ID, why error) *Timeline {
	t := newTimeline(ctx, cfg, id)
	t.control.Store(&Control{Tenant: id.Tenant, Timeline: id.Name})
	t.saved.Store(&savedAt{at: cfg.now()})
	t.move(StateBroken, why)
	return t
}

func newTimeline(ctx context.Context, cfg Config, id ID) *Timeline {
	t := &Timeline{
		id: id, cfg: cfg, gate: gate.New(cfg.Gate), wake: NewWake(),
		saving: make(chan struct{}, 1), state: StateCreating,
	}
	t.visits = NewVisits(t.gate, cfg.Gate)
	t.sourceGeneration.Store(1) // a task's 0 stands for no source
	t.ctx, t.stop = context.WithCancelCause(ctx)
	return t
}

// openLog opens the WAL, if the timeline has any. One that only met object
// storage has an identity, and no first position yet.
func (t *Timeline) openLog(c Control) error {
	if c.Start.TLI == 0 {
		return nil
	}
	l, err := wal.Open(filepath.Join(t.cfg.Dir, walDir), t.walConfig(c.SegmentSize), c.Vouched())
	if err != nil {
		return fmt.Errorf("open wal: %w", err)
	}
	t.log.Store(l)
	return nil
}

func (t *Timeline) walConfig(size pg.SegmentSize) wal.Config {
	return wal.Config{FS: t.cfg.FS, SegmentSize: size, Events: t.cfg.WAL}
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// ID returns the timeline's name.
func (t *Timeline) ID() ID { return t.id }

// Dir returns the timeline's own directory.
func (t *Timeline) Dir() string { return t.cfg.Dir }

// Context is cancelled, with a cause, when the timeline's shutdown begins.
func (t *Timeline) Context() context.Context { return t.ctx }

// Gate is closed when the timeline's shutdown has ended.
func (t *Timeline) Gate() *gate.Gate { return t.gate }

// Wake is what the timeline's manager waits on.
func (t *Timeline) Wake() *Wake { return t.wake }

// Control returns what is durable. The value is shared and must not be changed.
func (t *Timeline) Control() *Control { return t.control.Load() }

// Log returns the WAL, or nil while no source was seen.
func (t *Timeline) Log() *wal.Log { return t.log.Load() }

// Enter lets a user in. Whoever touches the timeline's storage holds a pass for
// as long as it does. The error is ErrShuttingDown, wraps ErrBroken, or is why the
// timeline is stopped.
func (t *Timeline) Enter(ctx context.Context, h gate.Holder) (gate.Pass, error) {
	if err := t.mayEnter(); err != nil {
		return gate.Pass{}, err
	}
	pass, err := t.gate.Enter(ctx, h)
	if err != nil {
		return gate.Pass{}, fmt.Errorf("%w: %w", ErrShuttingDown, err)
	}
	return pass, nil
}

// EnterFor is Enter for a holder that wants a WAL file (empty: nothing that has a name). While it is inside, the status tells the
// file, and the client whose request it is. It calls leave once.
func (t *Timeline) EnterFor(ctx context.Context, h gate.Holder, file string) (leave func(), err error) {
	if err := t.mayEnter(); err != nil {
		return nil, err
	}
	leave, err = t.visits.Enter(ctx, h, file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShuttingDown, err)
	}
	return leave, nil
}

// mayEnter says why nobody is let in whatever the gate says.
func (t *Timeline) mayEnter() error {
	switch state, why := t.State(); {
	case state == StateBroken:
		return fmt.Errorf("%w: %w", ErrBroken, why)
	case state == StateStopped && why != nil:
		return fmt.Errorf("timeline %s: %w", t.id, why)
	}
	return nil
}

// NameHolders tells what is known of those inside the timeline's gate.
func (t *Timeline) NameHolders(holders []gate.HolderInfo) []GateHolder { return t.visits.Name(holders) }

// SetOperation tells which step of a lifecycle operation is under way; an empty
// name tells that it ended.
func (t *Timeline) SetOperation(name, step string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name == "" {
		t.operation = Operation{}
		return
	}
	t.operation = Operation{Name: name, Step: step, Since: t.cfg.now()}
}

// BeginOperation tells of an operation that takes its time, unless another is under
// way, and returns how it says that it has ended.
func (t *Timeline) BeginOperation(name, step string) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.operation.Name != "" {
		return func() {}
	}
	mine := Operation{Name: name, Step: step, Since: t.cfg.now()}
	t.operation = mine
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.operation == mine {
			t.operation = Operation{}
		}
	}
}

// Operation returns the lifecycle operation under way; the zero value if none.
func (t *Timeline) Operation() Operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.operation
}
