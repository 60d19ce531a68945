package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// memSink keeps WAL in memory. All may be changed before a session.
type memSink struct {
	mu       sync.Mutex
	held     Held
	begin    pg.LSN // of bytes
	bytes    []byte // of the newest TLI
	next     pg.LSN // where the next Append belongs
	compare  pg.LSN // below here, Append compares
	results  []pg.LSN
	adopted  []pg.Position
	followed []pg.TLI
	diverged map[pg.TLI]int
	expected pg.LSN

	room     pg.LSN       // where Append fails, after it has taken what is below; 0: nowhere
	onSync   func() error // called inside Sync, after it was decided what is covered
	onAppend func(lsn pg.LSN, p []byte) error
	onCheck  func(lsn pg.LSN, p []byte) error
	onWrite  func(p []byte) error
}

// holding is a sink that holds zeros from the start of a segment up to end, on TLI 1.
func holding(end pg.LSN) *memSink {
	m := &memSink{diverged: map[pg.TLI]int{}}
	m.held = Held{SystemID: 7, SegmentSize: mib, Position: pg.Position{TLI: 1, LSN: end}, RecordEnd: end}
	m.begin = m.held.SegmentSize.StartOf(end)
	m.bytes = make([]byte, end-m.begin)
	return m
}

// holdingFrom is holding of all that lies between a segment's start and end.
func holdingFrom(begin, end pg.LSN) *memSink {
	m := holding(end)
	m.begin, m.bytes = begin, make([]byte, end-begin)
	return m
}

func (m *memSink) Held() Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held
	h.CompareFrom = m.compareFrom()
	return h
}

// compareFrom is the start of the segment that holds the last byte.
func (m *memSink) compareFrom() pg.LSN {
	if len(m.bytes) == 0 {
		return m.held.Position.LSN
	}
	return m.held.SegmentSize.StartOf(m.held.Position.LSN - 1)
}

func (m *memSink) Adopt(_ context.Context, src Source, start pg.Position, _ []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = Held{SystemID: src.SystemID, SegmentSize: src.SegmentSize, Position: start, RecordEnd: start.LSN, History: src.History}
	m.begin, m.bytes = start.LSN, nil
	m.adopted = append(m.adopted, start)
	return nil
}

func (m *memSink) Follow(_ context.Context, child pg.History, raw []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parsed, err := pg.ParseHistory(child.TLI, raw)
	if err != nil || parsed.TLI != child.TLI {
		return fmt.Errorf("history %q: %w", raw, err)
	}
	from := m.held.Position
	fork, ok := child.End(from.TLI)
	if !ok || fork > from.LSN {
		return fmt.Errorf("TLI %s does not leave TLI %s at or below %s", child.TLI, from.TLI, from.LSN)
	}
	m.diverged[from.TLI] = int(from.LSN - fork)
	start := m.held.SegmentSize.StartOf(fork)
	if start < m.begin {
		return fmt.Errorf("%s is not held", start)
	}
	m.bytes, m.begin = m.bytes[start-m.begin:fork-m.begin:fork-m.begin], start
	m.held.Position, m.held.RecordEnd, m.held.History = pg.Position{TLI: child.TLI, LSN: fork}, fork, child
	m.followed = append(m.followed, child.TLI)
	return nil
}

func (m *memSink) Rewind() pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compare, m.next = m.held.Position.LSN, m.compareFrom()
	return m.next
}

func (m *memSink) RewindOpen() pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compare = m.held.Position.LSN
	m.next = m.held.SegmentSize.StartOf(m.compare)
	return m.next
}

func (m *memSink) Verified() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next >= m.compare
}

func (m *memSink) Append(lsn pg.LSN, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onAppend != nil {
		if err := m.onAppend(lsn, p); err != nil {
			return err
		}
	}
	if lsn != m.next {
		return fmt.Errorf("append at %s, want %s", lsn, m.next)
	}
	if held := min(len(p), int(max(m.compare, m.next)-m.next)); held > 0 {
		if !bytes.Equal(m.bytes[m.next-m.begin:][:held], p[:held]) {
			return refuse(OtherBytes, "it has other bytes at or above %s", m.next)
		}
		m.next += pg.LSN(held)
		p = p[held:]
	}
	var err error
	if end := m.next + pg.LSN(len(p)); m.room != 0 && end > m.room {
		p, err = p[:m.room-m.next], errFull
	}
	m.bytes = append(m.bytes, p...)
	m.next += pg.LSN(len(p))
	m.held.Position.LSN = max(m.held.Position.LSN, m.next)
	m.held.RecordEnd = m.held.Position.LSN
	return err
}

// Check takes anything that it is not told to refuse.
func (m *memSink) Check(lsn pg.LSN, p []byte) (pg.Walker, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onCheck != nil {
		if err := m.onCheck(lsn, p); err != nil {
			return pg.Walker{}, err
		}
	}
	w := pg.NewWalker(mib)
	w.Reset(lsn+pg.LSN(len(p)), 0)
	return *w, nil
}

func (m *memSink) Write(p []byte, end *pg.Walker) error {
	if m.onWrite != nil {
		if err := m.onWrite(p); err != nil {
			return err
		}
	}
	return m.Append(end.Position()-pg.LSN(len(p)), p)
}

func (m *memSink) Expect(end pg.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expected = end
}

var errFull = errors.New("no space left on device")

func (m *memSink) Sync() (pg.LSN, error) {
	m.mu.Lock()
	end, onSync := m.held.Position.LSN, m.onSync
	m.mu.Unlock()
	if onSync != nil {
		if err := onSync(); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results = append(m.results, end)
	return end, nil
}

// synced is what the syncs returned. A test's source asks while the receiver goes on: what it was told of may have been followed by
// another sync.
func (m *memSink) synced() []pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.results)
}

// expects is what the sink was last told to expect.
func (m *memSink) expects() pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expected
}

// end is how far the sink holds.
func (m *memSink) end() pg.LSN { return m.Held().Position.LSN }

// empty is a sink that holds nothing.
func empty() *memSink { return &memSink{diverged: map[pg.TLI]int{}} }

// valid walks all that the sink holds of its newest TLI.
func (m *memSink) valid(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	w := pg.NewWalker(m.held.SegmentSize)
	w.Reset(m.begin, 0)
	if err := w.Write(m.bytes); err != nil {
		t.Errorf("WAL from %s to %s: %v", m.begin, m.held.Position, err)
	}
	if w.RecordEnd() == 0 {
		t.Errorf("no record from %s to %s", m.begin, m.held.Position)
	}
}
