package restore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/restore"
)

// Segments of WAL that is written for tests are small.
const (
	small    = pg.MinSegmentSize
	systemID = 7_000_000_000_000_000_001
)

// memory is a place that keeps its WAL in memory, and may say anything about it.
type memory struct {
	says      scripted
	segments  map[restore.File][]byte
	histories map[pg.TLI]string
	open      int // segments that were not closed
}

// newMemory returns a qualified place, sealed or not: the test says.
func newMemory(name string) *memory {
	return &memory{
		says: scripted{Answer: restore.Answer{
			From: name, Qualified: true, SystemID: systemID, History: pg.History{TLI: 1}, Seals: map[pg.TLI]pg.LSN{},
		}},
		segments: map[restore.File][]byte{}, histories: map[pg.TLI]string{},
	}
}

// keep stores WAL that begins at a segment's start as segments of a TLI, the last of them short.
func (m *memory) keep(tli pg.TLI, start pg.LSN, wal []byte) {
	m.says.held = append(m.says.held, extent{tli, start, start + pg.LSN(len(wal))})
	for segment := range slices.Chunk(wal, int(small)) {
		m.segments[restore.File{TLI: tli, SegNo: small.SegNo(start), Size: small}] = bytes.Clone(segment)
		start += pg.LSN(small)
	}
}

func (m *memory) bytes(tli pg.TLI, n pg.SegNo) []byte {
	return m.segments[restore.File{TLI: tli, SegNo: n, Size: small}]
}

func (m *memory) Answer(_ context.Context, f restore.File) restore.Answer { return m.says.answer(f) }

func (m *memory) OpenSegment(_ context.Context, tli pg.TLI, n pg.SegNo) (restore.Segment, error) {
	b := m.bytes(tli, n)
	if b == nil {
		return nil, fmt.Errorf("segment %d of TLI %d: %w", n, tli, fs.ErrNotExist)
	}
	m.open++
	return &memorySegment{Reader: bytes.NewReader(b), end: small.Start(n) + pg.LSN(len(b)), of: m}, nil
}

func (m *memory) History(_ context.Context, tli pg.TLI) ([]byte, error) {
	text, found := m.histories[tli]
	if !found {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

type memorySegment struct {
	*bytes.Reader
	end pg.LSN
	of  *memory
}

func (s *memorySegment) End() pg.LSN { return s.end }

func (s *memorySegment) Close() error {
	s.of.open--
	return nil
}

// writer writes WAL from segment 1 on.
func writer() *pgtest.Writer { return pgtest.NewWriter(small.Start(1), small, 1, systemID) }

// fill appends records up to about lsn, of many lengths.
func fill(w *pgtest.Writer, lsn pg.LSN) {
	for n := 30; w.End() < lsn; n = n*7%9001 + 30 {
		w.Record(n)
	}
}

func segment(tli pg.TLI, n pg.SegNo) restore.Request {
	return restore.Request{File: restore.File{TLI: tli, SegNo: n, Size: small}, Timeline: "acme/main"}
}

// find asks places, of which one is enough.
func find(t *testing.T, req restore.Request, places ...*memory) restore.Found {
	t.Helper()
	var nodes []restore.Place
	for _, p := range places {
		nodes = append(nodes, p)
	}
	return restore.Find(t.Context(), req, nodes, nil, restore.Quorum{Required: 1})
}

// content reads a file that must be there.
func content(t *testing.T, found restore.Found) []byte {
	t.Helper()
	if found.Kind != restore.Present {
		t.Fatalf("%v (%s): %s", found.Kind, found.Reason, found.Text)
	}
	b, err := io.ReadAll(found.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}
