package backup

import (
	"context"
	"errors"
	"io/fs"
	"testing"
)

// TestStoreIsAvailableAsLongAsItAnswers: an answer that is a refusal of what was asked is one; a cancelled operation tells nothing.
func TestStoreIsAvailableAsLongAsItAnswers(t *testing.T) {
	s := newStore(opened{}, Config{}.withDefaults())
	cancelled, cancel := context.WithCancel(t.Context())
	defer cancel()
	steps := []struct {
		name string
		err  error
		want bool
	}{
		{"one that works", nil, true},
		{"one that fails", errors.New("connection refused"), false},
		{"one that is cancelled", nil, false},
		{"an object that is not there", fs.ErrNotExist, true},
		{"one that hangs", context.DeadlineExceeded, false},
		{"an object that is there", errExists, true},
		{"one that is denied", ErrDenied, false},
		{"one that works again", nil, true},
	}
	for _, step := range steps {
		ctx, body := t.Context(), func(context.Context) error { return step.err }
		if step.name == "one that is cancelled" {
			ctx, body = cancelled, func(context.Context) error { cancel(); return cancelled.Err() }
		}
		err := s.do(ctx, opGet, "key", 0, body)
		if got := s.Stats().Available; got != step.want {
			t.Errorf("after %s (%v): available %t, want %t", step.name, err, got, step.want)
		}
	}
}
