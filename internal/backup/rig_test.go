package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

const (
	mib      = pg.SegmentSize(1 << 20) // the segments of most tests
	systemID = 7123456789012345678
)

// place is a kind of store, on which several nodes can meet.
type place struct {
	name string
	// node opens the store as a node sees it.
	node func(t *testing.T, cfg backup.Config) *backup.Store
}

// places are the stores that every promise is held against.
func places(t *testing.T) []place {
	t.Helper()
	return append([]place{filePlace(t), memPlace(t)}, s3Places(t)...)
}

func filePlace(t *testing.T) place {
	url := "file://" + t.TempDir() + "/objects"
	return place{"file", func(t *testing.T, cfg backup.Config) *backup.Store { return open(t, url, cfg) }}
}

func memPlace(t *testing.T) place {
	first := open(t, "mem://", backup.Config{Node: "first"})
	return place{"mem", func(_ *testing.T, cfg backup.Config) *backup.Store { return first.Peer(cfg) }}
}

func open(t *testing.T, url string, cfg backup.Config) *backup.Store {
	t.Helper()
	if cfg.Node == "" {
		cfg.Node = "a"
	}
	s, err := backup.Open(t.Context(), url, cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// everywhere runs a test on each kind of store.
func everywhere(t *testing.T, test func(t *testing.T, p place)) {
	for _, p := range places(t) {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

// withEach runs a test on each kind of store with each compression.
func withEach(t *testing.T, test func(t *testing.T, s *backup.Store, tl *backup.Timeline)) {
	everywhere(t, func(t *testing.T, p place) {
		for _, c := range []backup.Compression{backup.Zstd, backup.LZ4, backup.None} {
			t.Run(string(c), func(t *testing.T) {
				s := p.node(t, backup.Config{Node: "a"})
				test(t, s, newTimeline(t, s, c))
			})
		}
	})
}

func identity(c backup.Compression) backup.Identity {
	return backup.Identity{Incarnation: uuid.NewString(), SystemID: systemID, SegmentSize: mib, Compression: c}
}

// newTimeline is a new timeline, alone under its name.
func newTimeline(t *testing.T, s *backup.Store, c backup.Compression) *backup.Timeline {
	t.Helper()
	tenant := uuid.NewString()
	id, err := s.Adopt(t.Context(), tenant, "main", identity(c), false)
	must(t, err)
	return s.Timeline(tenant, "main", id)
}

// segment is a segment's bytes: half of them compress, as WAL's do.
func segment(seed uint64) []byte {
	b := make([]byte, mib)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	for i := 0; i < len(b); i += 2048 {
		_, _ = r.Read(b[i : i+1024])
	}
	return b
}

func source(b []byte) io.ReaderAt { return bytes.NewReader(b) }

func put(t *testing.T, tl *backup.Timeline, tli pg.TLI, n pg.SegNo) backup.Upload {
	t.Helper()
	u, err := tl.PutSegment(t.Context(), tli, n, source(segment(uint64(n))))
	must(t, err)
	return u
}

// content fetches a segment.
func content(t *testing.T, tl *backup.Timeline, tli pg.TLI, n pg.SegNo) ([]byte, pg.LSN) {
	t.Helper()
	s, err := tl.OpenSegment(t.Context(), tli, n)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	b, err := io.ReadAll(io.NewSectionReader(s, 0, 1<<62))
	must(t, err)
	return b, s.End()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantNotExist(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want it not to exist", err)
	}
}

func wantDamaged(t *testing.T, err error) {
	t.Helper()
	var damaged *backup.DamagedError
	if !errors.As(err, &damaged) {
		t.Fatalf("got %v, want a DamagedError", err)
	}
}

// crashAfter returns a context that ends once so many operations on the store have been done: what was to come after does
// not happen, as in a crash.
func crashAfter(t *testing.T, p place, node string, n int) (context.Context, *backup.Store) {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	s := p.node(t, backup.Config{Node: node})
	done := 0
	s.SetEvents(backup.Events{Operation: func(context.Context, backup.Operation) {
		if done++; done == n {
			cancel(errCrash)
		}
	}})
	return ctx, s
}

var errCrash = errors.New("crashed")

// bury ends a life.
func bury(t *testing.T, tl *backup.Timeline, keepObjects bool) {
	t.Helper()
	_, err := tl.Bury(t.Context(), keepObjects)
	must(t, err)
}
