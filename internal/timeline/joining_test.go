package timeline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// A node that has not caught up with where the source was when it came lacks commits that nobody else may have.
func TestJoiningNodeIsNotEnoughToSeal(t *testing.T) {
	tl := create(t, crashfs.New())
	w := source(1000, start+pg.LSN(seg)/4)
	must(t, tl.Adopt(t.Context(), adoption(start+pg.LSN(seg)/2)))
	receive(t, tl, w, w.End())
	setQuorum(t, tl, "a")
	_, err := tl.Seal(t.Context(), false)
	if unsealable := new(timeline.UnsealableError); !errors.As(err, &unsealable) || !strings.Contains(err.Error(), "joining") {
		t.Fatalf("sealed while it was joining: %v", err)
	}
	res, err := tl.Seal(t.Context(), true)
	must(t, err)
	if !res.DataLossAccepted || res.Warning == "" {
		t.Errorf("sealed without a word about what is missing: %+v", res)
	}
}
