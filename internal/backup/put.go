package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"gocloud.dev/blob"

	"github.com/sluicewal/sluice/internal/pg"
)

// extent is the WAL that a segment's object holds.
type extent struct {
	tli        pg.TLI
	segNo      pg.SegNo
	start, end pg.LSN
}

func (x extent) bytes() int64 { return int64(x.end - x.start) }

func (t *Timeline) whole(tli pg.TLI, n pg.SegNo) extent {
	return extent{tli: tli, segNo: n, start: t.layout.size.Start(n), end: t.layout.size.Start(n + 1)}
}

// PutSegment stores a whole segment of a TLI. Where it is there already, the same bytes are fine; other bytes are a
// *ConflictError, and stay.
func (t *Timeline) PutSegment(ctx context.Context, tli pg.TLI, n pg.SegNo, src io.ReaderAt) (Upload, error) {
	return t.put(ctx, t.layout.segment(tli, n), t.whole(tli, n), src)
}

// put stores a segment under a key, and tells about it.
func (t *Timeline) put(ctx context.Context, key string, x extent, src io.ReaderAt) (Upload, error) {
	begin, events := time.Now(), &t.store.cfg.Events
	partial := x.end < t.layout.size.Start(x.segNo+1)
	ctx = events.uploadStarted(ctx, UploadStart{TLI: x.tli, SegNo: x.segNo, Partial: partial, Raw: x.bytes()})
	stored, created, err := t.putIfAbsent(ctx, key, x, src)
	u := Upload{
		TLI: x.tli, SegNo: x.segNo, Partial: partial, Created: created,
		Raw: x.bytes(), Stored: stored, Duration: time.Since(begin),
	}
	var conflict *ConflictError
	switch {
	case err == nil:
		t.sound(key)
	case errors.As(err, &conflict):
		events.conflict(ctx, conflict)
	}
	events.uploadEnded(ctx, UploadEnd{Upload: u, Err: err})
	if err != nil {
		return Upload{}, err
	}
	return u, nil
}

// putIfAbsent looks first: a conditional write is refused only once all its bytes were sent. The write decides.
func (t *Timeline) putIfAbsent(ctx context.Context, key string, x extent, src io.ReaderAt) (stored int64, created bool, err error) {
	size, err := t.store.size(ctx, t.prefix+key)
	if err == nil {
		sum, err := sumOf(src, x)
		if err != nil {
			return 0, false, err
		}
		return size, false, t.compare(ctx, key, x, sum)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, false, err
	}
	p, err := t.pack(x, src)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = p.body.Close() }() // was only read
	switch stored, err = t.send(ctx, key, p); {
	case errors.Is(err, errExists):
		return p.size(), false, t.compare(ctx, key, x, p.label.SHA256)
	case err != nil:
		return 0, false, err
	}
	return stored, true, nil
}

// sumOf is the digest of a segment's bytes.
func sumOf(src io.ReaderAt, x extent) (sum digest, err error) {
	h := sha256.New()
	if err := copyExtent(h, src, x); err != nil {
		return digest{}, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// copyBuffers are for reading segments.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyExtent copies all of a segment's bytes, or fails.
func copyExtent(to io.Writer, src io.ReaderAt, x extent) error {
	buf := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(to, io.NewSectionReader(src, 0, x.bytes()), buf[:])
	if err == nil && n < x.bytes() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read segment %d of TLI %d at %s: %w", x.segNo, x.tli, x.start+pg.LSN(n), err)
	}
	return nil
}

// parcel is a segment made ready to be sent.
type parcel struct {
	label label
	head  []byte // the label's frame; nil without compression
	body  *spool
}

func (p *parcel) size() int64 { return int64(len(p.head)) + p.body.size }

// pack reads a segment once: what is summed is what is compressed, whatever happens to the file meanwhile.
func (t *Timeline) pack(x extent, src io.ReaderAt) (p *parcel, err error) {
	body := &spool{}
	defer func() {
		if err != nil {
			_ = body.Close()
		}
	}()
	enc, err := t.layout.compression.encoder(body)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if err := copyExtent(io.MultiWriter(h, enc), src, x); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("compress segment %d of TLI %d: %w", x.segNo, x.tli, err)
	}
	p = &parcel{body: body, label: label{
		Version: labelVersion, Bytes: x.bytes(), Stored: body.size, TLI: x.tli, Start: x.start, End: x.end, SystemID: t.identity.SystemID,
	}}
	h.Sum(p.label.SHA256[:0])
	if x.end < t.layout.size.Start(x.segNo+1) {
		p.label.At = time.Now().Unix()
	}
	if t.layout.compression.labelled() {
		p.head, err = p.label.encode()
	}
	return p, err
}

// Of a segment that is not compressed, the digest in the object's metadata.
const sumMetadata = "sha256"

// send creates the object; errExists if one is there.
func (t *Timeline) send(ctx context.Context, key string, p *parcel) (int64, error) {
	c := content{
		size: p.size(), open: func() io.Reader { return p.reader() },
		metadata: map[string]string{sumMetadata: p.label.SHA256.String()},
	}
	if !t.layout.compression.labelled() && t.store.dir != nil {
		if err := t.sendSum(ctx, key, p.label.SHA256); err != nil {
			return 0, err
		}
	}
	return t.store.write(ctx, t.prefix+key, c)
}

// sendSum writes the checksum file beside a segment that has no room for it, and before it: a segment without one could not
// be verified.
func (t *Timeline) sendSum(ctx context.Context, key string, sum digest) error {
	text := sumText(key, sum)
	there, err := t.store.decide(ctx, t.prefix+key+sumSuffix, []byte(text))
	if err == nil && string(there) != text {
		return &ConflictError{Key: t.prefix + key + sumSuffix, Ours: fmt.Sprintf("%q", text), Theirs: fmt.Sprintf("%q", there)}
	}
	return err
}

// compare sees whether the object that is there has the same bytes: by their digest, never by what they were compressed
// to, which differs between versions of the library. Its length has to be right, too: half an object says the same of
// itself as the whole.
func (t *Timeline) compare(ctx context.Context, key string, x extent, sum digest) error {
	ours := label{Version: labelVersion, SHA256: sum, Bytes: x.bytes(), TLI: x.tli, Start: x.start, End: x.end}
	conflict := func(theirs string) error {
		return &ConflictError{Key: t.prefix + key, Ours: ours.text(), Theirs: theirs}
	}
	a, err := t.store.attributes(ctx, t.prefix+key)
	if err != nil {
		return err
	}
	theirs, err := t.readLabel(ctx, key, x, a)
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		return conflict(damaged.Reason)
	case err != nil:
		return err
	case theirs.SHA256 != sum || theirs.Bytes != ours.Bytes:
		return conflict(theirs.text())
	}
	return nil
}

func (l label) text() string {
	return fmt.Sprintf("%d bytes of TLI %d from %s with SHA-256 %s", l.Bytes, l.TLI, l.Start, l.SHA256)
}

// readLabel reads what an object says of itself, and holds it against its name and its length. The error is a *DamagedError
// if they do not agree; it is not in quarantine yet.
func (t *Timeline) readLabel(ctx context.Context, key string, x extent, a *blob.Attributes) (label, error) {
	if !t.layout.compression.labelled() {
		return t.readSum(ctx, key, x, a)
	}
	if a.Size == 0 {
		return label{}, &DamagedError{Key: t.prefix + key, Reason: "it is empty"}
	}
	head, err := t.store.readStart(ctx, t.prefix+key, maxLabelBytes)
	if err != nil {
		return label{}, err
	}
	l, n, err := decodeLabel(head)
	if err == nil {
		err = t.fits(l, x, a.Size-int64(n))
	}
	if err != nil {
		return label{}, &DamagedError{Key: t.prefix + key, Reason: err.Error()}
	}
	return l, nil
}

// fits tells a foreign or a truncated object.
func (t *Timeline) fits(l label, x extent, stored int64) error {
	switch {
	case l.TLI != x.tli || l.Start != x.start || l.End != x.end:
		return fmt.Errorf("it holds TLI %d from %s to %s, and its name says TLI %d from %s to %s", l.TLI, l.Start, l.End, x.tli, x.start, x.end)
	case l.SystemID != t.identity.SystemID:
		return fmt.Errorf("it belongs to the cluster %d, and the timeline to %d", l.SystemID, t.identity.SystemID)
	case l.Stored != stored:
		return fmt.Errorf("it has %d bytes behind its label, which says %d", stored, l.Stored)
	}
	return nil
}

// sumText is the line that sha256sum(1) writes, and checks with -c.
func sumText(key string, sum digest) string { return fmt.Sprintf("%s  %s\n", sum, baseName(key)) }

// readSum makes the label of an object that has none.
func (t *Timeline) readSum(ctx context.Context, key string, x extent, a *blob.Attributes) (label, error) {
	l := label{
		Version: labelVersion, Bytes: x.bytes(), Stored: a.Size, TLI: x.tli, Start: x.start, End: x.end, SystemID: t.identity.SystemID,
	}
	text := a.Metadata[sumMetadata]
	if t.store.dir != nil {
		raw, err := t.store.read(ctx, t.prefix+key+sumSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			return label{}, &DamagedError{Key: t.prefix + key, Reason: "its checksum file is not there"}
		}
		if err != nil {
			return label{}, err
		}
		text = string(raw[:min(len(raw), hexDigits)])
	}
	if err := l.SHA256.UnmarshalText([]byte(text)); err != nil {
		return label{}, &DamagedError{Key: t.prefix + key, Reason: err.Error()}
	}
	if a.Size != x.bytes() {
		return label{}, &DamagedError{Key: t.prefix + key, Reason: fmt.Sprintf("it has %d bytes of %d", a.Size, x.bytes())}
	}
	return l, nil
}

func (p *parcel) reader() io.Reader { return io.MultiReader(bytes.NewReader(p.head), p.body.reader()) }
