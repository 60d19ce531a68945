package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Segment is a segment that was fetched and verified. It must be closed.
type Segment struct {
	spool *spool
	end   pg.LSN
	node  string
	at    time.Time
}

// ReadAt implements io.ReaderAt.
func (s *Segment) ReadAt(p []byte, off int64) (int, error) { return s.spool.ReadAt(p, off) }

// End returns the LSN behind the last byte: of a whole segment its end, of an open one how far it was durable.
func (s *Segment) End() pg.LSN { return s.end }

// StoredBy tells, of an open segment, which node had stored it and when: what the object says, or else when the store got
// it. Of a whole one the node is empty.
func (s *Segment) StoredBy() (node string, at time.Time) { return s.node, s.at }

// Close frees it. It may be called more than once.
func (s *Segment) Close() error { return s.spool.Close() }

// OpenSegment fetches a segment, whole or the newest open one, and verifies it; fs.ErrNotExist if there is none, and
// *DamagedError if what is there is not what was written: that is in quarantine from then on.
func (t *Timeline) OpenSegment(ctx context.Context, tli pg.TLI, n pg.SegNo) (*Segment, error) {
	s, err := t.fetch(ctx, t.layout.segment(tli, n), t.whole(tli, n))
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	return t.openPartial(ctx, tli, n)
}

// OpenWhole is OpenSegment for a segment that is there as a whole, and never an open one.
func (t *Timeline) OpenWhole(ctx context.Context, tli pg.TLI, n pg.SegNo) (*Segment, error) {
	return t.fetch(ctx, t.layout.segment(tli, n), t.whole(tli, n))
}

// openPartial fetches the newest open segment that is sound.
func (t *Timeline) openPartial(ctx context.Context, tli pg.TLI, n pg.SegNo) (*Segment, error) {
	var bad error
	for {
		p, err := t.NewestPartial(ctx, tli, n)
		if errors.Is(err, fs.ErrNotExist) && bad != nil {
			return nil, bad
		}
		if err != nil {
			return nil, err
		}
		s, err := t.fetch(ctx, p.key, p.extent(t.layout.size))
		var damaged *DamagedError
		if err == nil {
			s.node = p.Node
			return s, nil
		}
		if !errors.As(err, &damaged) {
			return nil, err
		}
		bad = err // it is in quarantine, and not the newest any more
	}
}

// fetch reads an object to its end, and hands out nothing of it before its digest is right.
func (t *Timeline) fetch(ctx context.Context, key string, x extent) (*Segment, error) {
	a, err := t.store.attributes(ctx, t.prefix+key)
	if err != nil {
		return nil, err
	}
	l, err := t.readLabel(ctx, key, x, a)
	if err == nil {
		var s *Segment
		if s, err = t.fetchLabelled(ctx, key, l, a.Size); err == nil {
			t.sound(key)
			if s.at = a.ModTime.UTC(); l.At != 0 {
				s.at = time.Unix(l.At, 0).UTC()
			}
			return s, nil
		}
	}
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return nil, t.quarantine(ctx, key, damaged.Reason)
	}
	return nil, err
}

func (t *Timeline) fetchLabelled(ctx context.Context, key string, l label, size int64) (*Segment, error) {
	into := &spool{}
	err := t.store.do(ctx, opGet, t.prefix+key, size, func(ctx context.Context) error {
		r, err := t.store.bucket.NewReader(ctx, t.prefix+key, nil)
		if err != nil {
			return err
		}
		return errors.Join(t.unpack(key, l, r, into), r.Close())
	})
	if err != nil {
		return nil, errors.Join(err, into.Close())
	}
	return &Segment{spool: into, end: l.End}, nil
}

// unpack decompresses an object and holds it against its label. What the network did to it is no damage.
func (t *Timeline) unpack(key string, l label, r io.Reader, into io.Writer) error {
	wire := &witness{r: r}
	sum := sha256.New()
	n, err := t.decode(l, wire, io.MultiWriter(sum, into))
	damaged := func(format string, args ...any) error {
		return &DamagedError{Key: t.prefix + key, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case wire.err != nil:
		return wire.err
	case err != nil:
		return damaged("after %d bytes: %v", n, err)
	case n != l.Bytes:
		return damaged("it has %d bytes of WAL, and should have %d", n, l.Bytes)
	case !bytes.Equal(sum.Sum(nil), l.SHA256[:]):
		return damaged("its SHA-256 is %x, and should be %s", sum.Sum(nil), l.SHA256)
	}
	return nil
}

// decode copies what the label promises, and one byte more if there is more.
func (t *Timeline) decode(l label, r io.Reader, to io.Writer) (int64, error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	if t.layout.compression.labelled() {
		if err := skipLabel(buffered); err != nil {
			return 0, err
		}
	}
	dec, err := t.layout.compression.decoder(buffered)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(to, io.LimitReader(dec, l.Bytes+1))
	return n, errors.Join(err, dec.Close())
}

// skipLabel passes over the label, which has been read.
func skipLabel(r *bufio.Reader) error {
	head, err := r.Peek(maxLabelBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, n, err := decodeLabel(head)
	if err != nil {
		return err
	}
	_, err = r.Discard(n)
	return err
}

// witness remembers how a reader failed: a decoder reports a connection that was lost as damage.
type witness struct {
	r   io.Reader
	err error
}

func (w *witness) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// PutHistory stores a TLI's history file. Another content there is a *ConflictError.
func (t *Timeline) PutHistory(ctx context.Context, tli pg.TLI, raw []byte) error {
	if _, err := pg.ParseHistory(tli, raw); err != nil {
		return err
	}
	key := t.prefix + historyKey(tli)
	there, err := t.store.decide(ctx, key, raw)
	if err != nil || bytes.Equal(there, raw) {
		return err
	}
	conflict := &ConflictError{Key: key, Ours: fmt.Sprintf("%q", raw), Theirs: fmt.Sprintf("%q", there)}
	t.store.cfg.Events.conflict(ctx, conflict)
	return conflict
}

// History returns a TLI's history file, from its object or from the claim; fs.ErrNotExist if there is none.
func (t *Timeline) History(ctx context.Context, tli pg.TLI) ([]byte, error) {
	key := historyKey(tli)
	raw, err := t.store.read(ctx, t.prefix+key)
	if errors.Is(err, fs.ErrNotExist) {
		c, err := t.ClaimOf(ctx, tli)
		return c.History, err
	}
	if err != nil {
		return nil, err
	}
	if _, err := pg.ParseHistory(tli, raw); err != nil {
		return nil, t.quarantine(ctx, key, err.Error())
	}
	t.sound(key)
	return raw, nil
}
