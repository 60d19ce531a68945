package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"gocloud.dev/blob"
)

// content is what an object is made of. It can be read again, for another try.
type content struct {
	size     int64
	open     func() io.Reader
	metadata map[string]string
}

func inMemory(b []byte) content {
	return content{size: int64(len(b)), open: func() io.Reader { return bytes.NewReader(b) }}
}

// maxSmallBytes bounds what is read of an object that should be small.
const maxSmallBytes = 1 << 20

// octets is the media type of all objects: without one, the library looks at the first bytes and guesses.
const octets = "application/octet-stream"

// write creates an object and returns its size; errExists if one is there. What the store confirms is looked for: some
// have answered 200 and stored nothing.
func (s *Store) write(ctx context.Context, key string, c content) (int64, error) {
	err := s.do(ctx, opPut, key, c.size, func(ctx context.Context) error {
		if s.dir != nil {
			return s.dir.put(ctx, key, c.open())
		}
		return s.bucket.Upload(ctx, key, c.open(), &blob.WriterOptions{
			ContentType: octets, Metadata: c.metadata, IfNotExist: true,
		})
	})
	if err != nil {
		return 0, err
	}
	switch size, err := s.size(ctx, key); {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("put %s: %w", key, ErrNotStored)
	case err != nil:
		return 0, err
	case size != c.size:
		return 0, fmt.Errorf("put %s: %w: it has %d bytes of %d", key, ErrNotStored, size, c.size)
	}
	return c.size, nil
}

// size returns an object's size in bytes; fs.ErrNotExist if there is none.
func (s *Store) size(ctx context.Context, key string) (int64, error) {
	a, err := s.attributes(ctx, key)
	if err != nil {
		return 0, err
	}
	return a.Size, nil
}

func (s *Store) attributes(ctx context.Context, key string) (*blob.Attributes, error) {
	var a *blob.Attributes
	err := s.do(ctx, opHead, key, 0, func(ctx context.Context) (err error) {
		a, err = s.bucket.Attributes(ctx, key)
		return err
	})
	return a, err
}

// read returns a small object; fs.ErrNotExist if there is none.
func (s *Store) read(ctx context.Context, key string) ([]byte, error) {
	b, err := s.readStart(ctx, key, maxSmallBytes+1)
	if err == nil && len(b) > maxSmallBytes {
		return nil, &DamagedError{Key: key, Reason: fmt.Sprintf("it has more than %d bytes", maxSmallBytes)}
	}
	return b, err
}

// readStart returns the first bytes of an object, at most n.
func (s *Store) readStart(ctx context.Context, key string, n int64) ([]byte, error) {
	var b bytes.Buffer
	err := s.do(ctx, opGet, key, 0, func(ctx context.Context) error {
		return s.copyRange(ctx, key, n, &b)
	})
	return b.Bytes(), err
}

// copyRange copies the first n bytes of an object, or all if n is negative.
func (s *Store) copyRange(ctx context.Context, key string, n int64, to io.Writer) error {
	r, err := s.bucket.NewRangeReader(ctx, key, 0, n, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, r)
	return errors.Join(err, r.Close())
}

// remove deletes an object. That it is not there is fine.
func (s *Store) remove(ctx context.Context, key string) error {
	err := s.do(ctx, opDelete, key, 0, func(ctx context.Context) error { return s.bucket.Delete(ctx, key) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// decideTries is how often a decision is proposed, and decidePause how long the first pause between two tries is; each is
// twice the one before.
const (
	decideTries = 5
	decidePause = 20 * time.Millisecond
)

// decide writes a small object if it is absent, and returns what is there now: ours, or what somebody else decided first.
// A write that was cut may have been done; the next one finds it. One that is there and cannot be read was taken back in
// between, or is shown before its content is (versitygw, while another request writes it): it is proposed again.
// ErrNotStored if that does not end.
func (s *Store) decide(ctx context.Context, key string, proposal []byte) ([]byte, error) {
	for try := range decideTries {
		if try > 0 {
			if err := pause(ctx, decidePause<<(try-1)); err != nil {
				return nil, err
			}
		}
		if _, err := s.write(ctx, key, inMemory(proposal)); err != nil && !errors.Is(err, errExists) {
			return nil, err
		}
		there, err := s.read(ctx, key)
		if !errors.Is(err, fs.ErrNotExist) {
			return there, err
		}
	}
	return nil, fmt.Errorf("put %s: %w", key, ErrNotStored)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// object is an entry of a listing.
type object struct {
	key  string
	size int64
}

// pageSize is how many objects one request lists.
const pageSize = 1000

// list calls each with the objects whose keys begin with a prefix, in the order of their keys, until it returns false.
func (s *Store) list(ctx context.Context, prefix string, each func(object) bool) error {
	return s.pages(ctx, &blob.ListOptions{Prefix: prefix}, func(o *blob.ListObject) bool {
		return isTemporary(o.Key) || each(object{o.Key, o.Size})
	})
}

// listDirectories calls each with the names of what would be directories below a prefix, which ends with a slash.
func (s *Store) listDirectories(ctx context.Context, prefix string, each func(name string)) error {
	return s.pages(ctx, &blob.ListOptions{Prefix: prefix, Delimiter: "/"}, func(o *blob.ListObject) bool {
		if o.IsDir {
			each(strings.TrimSuffix(o.Key[len(prefix):], "/"))
		}
		return true
	})
}

// pages calls each with what is in a listing, page by page, until it returns false.
func (s *Store) pages(ctx context.Context, opts *blob.ListOptions, each func(*blob.ListObject) bool) error {
	for token := blob.FirstPageToken; len(token) > 0; {
		var page []*blob.ListObject
		err := s.do(ctx, opList, opts.Prefix, 0, func(ctx context.Context) (err error) {
			if s.dir != nil {
				token = nil
				page, err = s.dir.list(ctx, opts)
			} else {
				page, token, err = s.bucket.ListPage(ctx, token, pageSize, opts)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page {
			if !each(o) {
				return nil
			}
		}
	}
	return nil
}
