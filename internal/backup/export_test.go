package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gocloud.dev/blob"

	"github.com/sluicewal/sluice/internal/pg"
)

// Peer is another node on the same store: a mem:// URL opens a new one each time.
func (s *Store) Peer(cfg Config) *Store {
	peer := newStore(opened{bucket: s.bucket}, cfg.withDefaults())
	peer.id = s.id
	return peer
}

// Put writes an object, whatever is there, as somebody else might. Metadata stay.
func (s *Store) Put(ctx context.Context, key string, content []byte) error {
	opts := &blob.WriterOptions{ContentType: octets}
	if a, err := s.bucket.Attributes(ctx, key); err == nil {
		opts.Metadata = a.Metadata
	}
	return s.bucket.WriteAll(ctx, key, content, opts)
}

// Remove removes an object.
func (s *Store) Remove(ctx context.Context, key string) error { return s.bucket.Delete(ctx, key) }

// ReadAll returns an object.
func (s *Store) ReadAll(ctx context.Context, key string) ([]byte, error) {
	return s.bucket.ReadAll(ctx, key)
}

// PutIfAbsent is what everything rests on: created, or refused.
func (s *Store) PutIfAbsent(ctx context.Context, key string, content []byte) (created bool, err error) {
	_, err = s.write(ctx, key, inMemory(content))
	if errors.Is(err, errExists) {
		return false, nil
	}
	return err == nil, err
}

// SegmentKey returns the key of a whole segment.
func (t *Timeline) SegmentKey(tli pg.TLI, n pg.SegNo) string {
	return t.prefix + t.layout.segment(tli, n)
}

// Keys lists the keys below a directory of the incarnation.
func (t *Timeline) Keys(ctx context.Context, dir string) ([]string, error) { return t.keys(ctx, dir) }

// Prefix returns where the timeline's objects are.
func (t *Timeline) Prefix() string { return t.prefix }

// SetEvents replaces the events, before anything runs.
func (s *Store) SetEvents(e Events) { s.cfg.Events = e }

// ListBothWays lists a directory as we do, and as the library does.
func (s *Store) ListBothWays(ctx context.Context, prefix, delimiter string) (ours, library string) {
	opts := &blob.ListOptions{Prefix: prefix, Delimiter: delimiter}
	list, err := s.dir.list(ctx, opts)
	if !slices.IsSortedFunc(list, byKey) {
		err = errors.Join(err, errors.New("not in the order of the keys, as elsewhere"))
	}
	theirs, _, theirErr := s.bucket.ListPage(ctx, blob.FirstPageToken, pageSize, opts)
	slices.SortFunc(theirs, byKey) // it lists directory by directory
	return described(list, err), described(theirs, theirErr)
}

func byKey(a, b *blob.ListObject) int { return strings.Compare(a.Key, b.Key) }

func described(list []*blob.ListObject, err error) string {
	text := fmt.Sprintln(err)
	for _, o := range list {
		text += fmt.Sprintln(o.Key, o.Size, o.ModTime.UnixNano(), o.IsDir)
	}
	return text
}
