package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

// The node's whole disk is destroyed together with the primary. What is left is
// object storage. After a drain nothing is lost; without one, what was acknowledged
// in the last partial_interval and one upload.

const (
	// partialInterval is the node's partial_interval.
	partialInterval = 2 * time.Second
	// anUpload is how long one may take on a busy machine.
	anUpload = 3 * time.Second
	// lostDiskSegment is the segments' size in MiB.
	lostDiskSegment = 1
)

// stored is a node with object storage, out of which alone is restored.
type stored struct{ sluice }

func (s stored) RestoreCommand(sealing) string { return s.StoreRestoreCommand("--accept-data-loss") }

// Sealed says nothing: what ends without a seal ends where object storage does.
func (stored) Sealed(context.Context) (*rig.Seal, error) { return nil, nil }

func TestDiskLostAfterADrainLosesNothing(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, url string) {
		w := newStoredWorld(t, url, partialInterval)
		for n := range *losses {
			l := &diskLoss{failover: w.nextFailover(10 * time.Millisecond), drain: true, n: n}
			if err := l.run(t.Context()); err != nil {
				t.Fatalf("cycle %d: %v\n%s\n%s", n, err, w.keeper.Describe(t.Context()), againLost(t))
			}
			t.Logf("cycle %d: TLI %d, %d rows acknowledged, all there", n, w.stats.tli, w.stats.verdict.Acked)
		}
		if err := w.closeBooks(t.Context()); err != nil {
			t.Errorf("after the last cycle: %v", err)
		}
	})
}

// It is the control of the test above, too: the same without a drain loses rows.
func TestDiskLostWithoutADrainLosesTheLastInterval(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, url string) {
		w := newStoredWorld(t, url, partialInterval)
		lost := 0
		for n := range *losses {
			l := &diskLoss{failover: w.nextFailover(10 * time.Millisecond), n: n}
			if err := l.run(t.Context()); err != nil {
				t.Fatalf("cycle %d: %v\n%s\n%s", n, err, w.keeper.Describe(t.Context()), againLost(t))
			}
			lost += l.missing.rows
			t.Logf("cycle %d: %s", n, l)
		}
		if err := w.closeBooks(t.Context()); err != nil {
			t.Errorf("after the last cycle: %v", err)
		}
		if lost == 0 {
			t.Error("nothing was ever lost: neither this test nor the one with a drain shows anything")
		}
	})
}

// An open segment that is never stored loses more than a partial_interval: the
// judge has to see it.
func TestControlRareCopiesLoseMore(t *testing.T) {
	t.Parallel()
	w := newStoredWorld(t, directoryStore(t), time.Hour)
	l := &diskLoss{failover: w.nextFailover(400 * time.Millisecond)}
	err := l.runUntilJudged(t.Context(), partialInterval+anUpload+time.Second)
	if len(w.stats.verdict.Lost) == 0 {
		t.Fatalf("the control lost nothing (%v); %s", err, l)
	}
	t.Logf("as it must be: %v; %s", err, l)
	if err := l.bury(t.Context()); err != nil {
		t.Error(err)
	}
}

// onEachStore runs a test on a directory, and on S3 where there is a server.
func onEachStore(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		test(t, directoryStore(t))
	})
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		test(t, rig.StartS3(t).URL())
	})
}

func directoryStore(t *testing.T) string {
	t.Helper()
	return "file://" + filepath.Join(rig.TempDir(t), "objects")
}

func newStoredWorld(t *testing.T, url string, interval time.Duration) *world {
	t.Helper()
	t.Logf("seed %d", *seed)
	node, err := rig.NewNode(t, rig.NodeOptions{Binary: program, Store: url, PartialInterval: interval.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { scanLog(t, node, explained) })
	w, err := newWorld(t, stored{sluice{node}}, nil, *seed, lostDiskSegment)
	if err != nil {
		t.Fatalf("%v\n%s", err, rig.Tail(node.LogFile(), 20))
	}
	return w
}

func againLost(t *testing.T) string {
	return fmt.Sprintf("again: go test ./test/durability -v -run '%s$' -losses %d -seed %d", t.Name(), *losses, *seed)
}

// nextFailover is from the present primary, whose clients pause for up to think
// between two transactions.
func (w *world) nextFailover(think time.Duration) *failover {
	p := plan{think: think}
	if w.load == nil {
		w.startLoad(p)
	}
	return &failover{world: w, plan: p, old: w.server, oldLoad: w.load, oldTLI: w.stats.tli}
}

// diskLoss is a failover in which the node's disk goes, too.
type diskLoss struct {
	*failover
	drain bool // the node is stopped in order before
	n     int  // of the cycle

	life    string // the timeline's incarnation
	oldest  string // the name of the oldest segment on the node's disk
	content []byte // its
	ended   time.Time
	missing loss
}

func (l *diskLoss) String() string {
	if l.missing.rows == 0 {
		return fmt.Sprintf("TLI %d, %d rows acknowledged, none lost", l.stats.tli, l.stats.verdict.Acked)
	}
	return fmt.Sprintf("TLI %d, %d rows acknowledged, %d lost, the first of them acknowledged %v before the end",
		l.stats.tli, l.stats.verdict.Acked, l.missing.rows, l.ended.Sub(l.missing.oldest).Round(time.Millisecond))
}

func (l *diskLoss) run(ctx context.Context) error {
	r := rand.New(rand.NewPCG(uint64(l.seed), uint64(l.n)))
	if err := l.runUntilJudged(ctx, time.Duration(r.Int64N(int64(partialInterval+time.Second)))); err != nil {
		return err
	}
	return l.steps(ctx, []namedStep{
		{"adopt the timeline from object storage", l.adopt},
		{"follow the new primary", l.follow},
		{"hand back what only object storage has", l.handBack},
		{"bury the old primary", l.bury},
	})
}

// runUntilJudged lets the load run for a while, destroys everything but object
// storage, and holds what is restored against the ledger.
func (l *diskLoss) runUntilJudged(ctx context.Context, calm time.Duration) error {
	return l.steps(ctx, []namedStep{
		{"commit", l.commit},
		{"remember the oldest segment", l.remember},
		{"commit on", func(ctx context.Context) error { pause(ctx, calm); return l.load.awaitAcks(ctx, 1) }},
		{"destroy the node and the primary", l.destroy},
		{"restore", l.restoreAndPromote},
		{"give up what was not stored", l.giveUp},
		{"judge the rows", l.judgeRows},
		{"judge the fork", l.judgeFork},
	})
}

type namedStep struct {
	name string
	do   func(context.Context) error
}

func (*diskLoss) steps(ctx context.Context, all []namedStep) error {
	for _, s := range all {
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (l *diskLoss) node() *rig.Node { return l.keeper.(stored).Node }

func (l *diskLoss) commit(ctx context.Context) error {
	l.began = time.Now()
	if err := l.load.awaitAcks(ctx, clients); err != nil {
		return err
	}
	return l.server.Exec(ctx, "SELECT pg_switch_wal()")
}

// remember reads the oldest segment on the node's disk, once object storage has it
// as well.
func (l *diskLoss) remember(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, patience, errStall)
	defer cancel()
	var files []string
	status, err := l.node().AwaitStatus(waiting, "a whole segment is in object storage", func(s rig.Status) bool {
		files, _ = filepath.Glob(filepath.Join(l.node().WALDir(), fmt.Sprintf("%08X????????????????", l.oldTLI)))
		return len(files) > 0 && s.BackupLSN >= l.endOf(files[0])
	})
	if err != nil {
		return err
	}
	l.life, l.oldest = status.Incarnation, filepath.Base(files[0])
	l.content, err = os.ReadFile(files[0])
	return err
}

func (l *diskLoss) endOf(file string) pg.LSN {
	_, n, err := pg.ParseSegmentName(filepath.Base(file), l.stats.segment)
	if err != nil {
		panic(err) // the pattern matches nothing else
	}
	return l.stats.segment.Start(n + 1)
}

// destroy ends the node, under load, and the primary, and removes what both had
// on their disks.
func (l *diskLoss) destroy(ctx context.Context) error {
	stop := l.node().Kill
	if l.drain {
		stop = with(ctx, l.node().Stop)
	}
	l.ended = time.Now()
	err := inOrder(stop, l.old.Kill)
	l.oldLoad.Stop()
	return inOrder(func() error { return err }, l.node().DestroyDisk)
}

var (
	storedAt   = regexp.MustCompile(`as node \S+ stored it at (\S+): what came later is lost`)
	endOfWhole = regexp.MustCompile(`object storage has nothing of it, and what it has of TLI \d+ ends here`)
)

// giveUp takes what was acknowledged since the last copy that had to be there out
// of the books, unless the node was drained; and holds what the restore said of
// its end against what is missing.
func (l *diskLoss) giveUp(ctx context.Context) error {
	if l.drain {
		return nil
	}
	found, err := l.found(ctx)
	if err != nil {
		return err
	}
	l.missing = l.ledger.giveUp(found, l.ended.Add(-partialInterval-anUpload))
	log := l.server.Log(1000)
	said := storedAt.FindStringSubmatch(log)
	switch {
	case l.missing.rows == 0:
		return nil
	case said == nil:
		// Where no copy of the open segment was there yet, the end is that of the last whole one, or of the last record
		// that does not go on behind it.
		if !endOfWhole.MatchString(log) {
			return errors.New("the restore does not say from when its end is")
		}
		return nil
	}
	at, err := time.Parse(time.RFC3339, said[1])
	if err == nil && l.missing.oldest.Before(at.Add(-anUpload)) {
		err = fmt.Errorf("the restore says that its end is from %s, and lacks what was acknowledged at %s", at, l.missing.oldest)
	}
	return err
}

// adopt starts the node with an empty disk. It knows the timeline from object
// storage alone, at first with the source that is gone.
func (l *diskLoss) adopt(ctx context.Context) error {
	if err := l.node().Start(ctx); err != nil {
		return err
	}
	if err := l.node().Join(ctx, l.old.Conninfo()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errStall)
	defer cancel()
	_, err := l.node().AwaitStatus(ctx, "the timeline is adopted", func(s rig.Status) bool { return s.Incarnation == l.life })
	return err
}

// handBack asks the node for a segment that it had before its disk was lost.
func (l *diskLoss) handBack(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(l.node().WALDir(), l.oldest)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the node, whose disk was empty, holds %s itself (%w)", l.oldest, err)
	}
	out := filepath.Join(l.dir, fmt.Sprintf("fetched-%d", l.n))
	if _, err := l.node().Must(ctx, "wal-fetch", rig.Timeline, l.oldest, out); err != nil {
		return err
	}
	got, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	want, err := l.belowTheFork()
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s is not what the node had received", l.oldest)
	}
	return err
}

// belowTheFork is the segment as it is handed back: where the new TLI left in it, because its last record does not go on in what was
// restored, there is nothing above that.
func (l *diskLoss) belowTheFork() ([]byte, error) {
	_, fork, err := newestFork(l.server.Dir())
	if err != nil {
		return nil, err
	}
	size := l.stats.segment
	_, n, err := pg.ParseSegmentName(l.oldest, size)
	if err == nil && size.SegNo(fork) == n {
		clear(l.content[size.Offset(fork):])
	}
	return l.content, err
}
