package durability

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
)

// state is what is known about one transaction.
type state int

const (
	inFlight state = iota // sent; no answer yet
	unknown               // no answer, or a doubtful one: it may be there or not
	acked                 // PostgreSQL said that it is committed and replicated: it must be there, for ever
	kept                  // was unknown, and survived a failover: it must stay
	gone                  // was unknown, and did not survive: it must never come back
)

// batch is the rows of one transaction. They are all there, or none is.
type batch struct {
	first int64 // id of the first row
	rows  int
	state state
	at    time.Time // when it was acknowledged, if it was
}

// ledger is the memory of what was committed, outside of the database. Its
// methods may be called by several goroutines at once.
type ledger struct {
	salt int64

	mu      sync.Mutex
	nextID  int64
	oldest  int64    // rows below it were deleted: none may come back
	deleted int      // how many of these had been acknowledged
	batches []*batch // from oldest on, by first
	// lateAcks counts rows that were acknowledged after a failover had shown
	// that they are gone: by an old primary that somebody still answers.
	lateAcks int
}

func newLedger(salt int64) *ledger { return &ledger{salt: salt, nextID: 1} }

// begin enters a transaction that is about to be sent.
func (l *ledger) begin(rows int) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &batch{first: l.nextID, rows: rows}
	l.nextID += int64(rows)
	l.batches = append(l.batches, b)
	return b
}

// end notes how a transaction was answered. Only a plain success counts.
func (l *ledger) end(b *batch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && b.state == gone:
		l.lateAcks += b.rows
	case err == nil:
		b.state, b.at = acked, time.Now()
	case b.state == inFlight:
		b.state = unknown
	}
}

// verdict says what a failover did to the rows. All counts are of rows.
type verdict struct {
	Acked    int // that have to be there, those of all cycles
	Deleted  int // that were acknowledged, and then deleted
	Settled  int // that were unknown and are decided now
	Lost     []int64
	Corrupt  []int64 // present with another payload
	Torn     []int64 // present without the rest of their transaction
	Phantoms []int64 // present though they were gone, or never sent
	Vanished []int64 // absent though they had survived an earlier failover
	LateAcks int
}

// err says what is wrong, nil if nothing is.
func (v verdict) err() error {
	var found []string
	add := func(what string, ids []int64) {
		if len(ids) > 0 {
			found = append(found, fmt.Sprintf("%d rows %s (ids %v)", len(ids), what, ids[:min(len(ids), 8)]))
		}
	}
	add("lost", v.Lost)
	add("corrupt", v.Corrupt)
	add("of half a transaction", v.Torn)
	add("reappeared", v.Phantoms)
	add("vanished", v.Vanished)
	if v.LateAcks > 0 {
		found = append(found, fmt.Sprintf("%d rows acknowledged by a primary whose TLI was sealed", v.LateAcks))
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("of %d acknowledged rows: %s", v.Acked, strings.Join(found, "; "))
}

// settle compares the ledger with the rows that a restored server holds, and
// decides what was unknown by what is there.
func (l *ledger) settle(found map[int64]string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{LateAcks: l.lateAcks, Deleted: l.deleted}
	known := 0
	for _, b := range l.batches {
		known += l.settleBatch(b, found, &v)
	}
	if known < len(found) {
		for id := range found {
			if id < l.oldest || id >= l.nextID {
				v.Phantoms = append(v.Phantoms, id)
			}
		}
	}
	return v
}

// loss is what a restore without the newest WAL gave up.
type loss struct {
	rows   int
	oldest time.Time // when the first of them was acknowledged
}

// giveUp takes rows that are not there out of the books, if they were acknowledged
// at from or later; those before stay, as lost. It returns all that are missing.
func (l *ledger) giveUp(found map[int64]string, from time.Time) (missing loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.batches {
		if b.state != acked || b.presentIn(found) {
			continue
		}
		missing.rows += b.rows
		if missing.oldest.IsZero() || b.at.Before(missing.oldest) {
			missing.oldest = b.at
		}
		if !b.at.Before(from) {
			b.state = gone
		}
	}
	return missing
}

// presentIn reports whether any row of a transaction is there.
func (b *batch) presentIn(found map[int64]string) bool {
	for id := b.first; id < b.first+int64(b.rows); id++ {
		if _, ok := found[id]; ok {
			return true
		}
	}
	return false
}

// old returns the id below which rows can be deleted, so that keep transactions
// stay: all of them are decided.
func (l *ledger) old(keep int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.oldest
	for _, b := range l.batches[:max(0, len(l.batches)-keep)] {
		if b.state == inFlight || b.state == unknown {
			break
		}
		id = b.first + int64(b.rows)
	}
	return id
}

// forget notes that rows below id were deleted, and that this was acknowledged.
func (l *ledger) forget(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest = id
	for len(l.batches) > 0 && l.batches[0].first < id {
		if l.batches[0].state == acked {
			l.deleted += l.batches[0].rows
		}
		l.batches = l.batches[1:]
	}
}

// settleBatch judges one transaction; it returns how many of its rows are there.
func (l *ledger) settleBatch(b *batch, found map[int64]string, v *verdict) int {
	var present, absent []int64
	for id := b.first; id < b.first+int64(b.rows); id++ {
		payload, ok := found[id]
		if !ok {
			absent = append(absent, id)
			continue
		}
		present = append(present, id)
		if payload != l.payload(id) {
			v.Corrupt = append(v.Corrupt, id)
		}
	}
	b.judge(present, absent, v)
	return len(present)
}

func (b *batch) judge(present, absent []int64, v *verdict) {
	if b.state == acked {
		v.Acked += b.rows
	}
	switch {
	case b.state == acked:
		v.Lost = append(v.Lost, absent...)
	case b.state == gone:
		v.Phantoms = append(v.Phantoms, present...)
	case len(present) > 0 && len(absent) > 0:
		v.Torn = append(v.Torn, present...)
	case b.state == kept:
		v.Vanished = append(v.Vanished, absent...)
	default:
		v.Settled += b.rows
		b.state = kept
		if len(present) == 0 {
			b.state = gone
		}
	}
}

// payload is what row id must hold: it follows from id and salt, has 32 to 431
// bytes, and does not compress.
func (l *ledger) payload(id int64) string {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], uint64(l.salt))
	binary.BigEndian.PutUint64(seed[8:], uint64(id))
	sum := sha256.Sum256(seed[:])
	length := 32 + int(binary.BigEndian.Uint16(sum[:]))%400
	var b strings.Builder
	for b.Len() < length {
		b.WriteString(hex.EncodeToString(sum[:]))
		sum = sha256.Sum256(sum[:])
	}
	return b.String()[:length]
}
