package restore_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/restore"
)

func TestFetchWeighsTheSources(t *testing.T) {
	unknown, absent := says(restore.Unknown, "who knows"), says(restore.Absent, "it ended")
	agrees := sourceFunc(func() restore.Found {
		return restore.Found{Decision: restore.Decision{Text: "nothing is stored", Agrees: true}}
	})
	tests := map[string]struct {
		sources []restore.Source
		accept  bool
		want    restore.Kind
		text    string
	}{
		"nobody to ask":              {nil, true, restore.Unknown, "nobody"},
		"all say so":                 {[]restore.Source{absent, absent}, false, restore.Absent, "it ended"},
		"one does not know":          {[]restore.Source{absent, unknown}, false, restore.Unknown, "leave it out"},
		"one says so, loss accepted": {[]restore.Source{unknown, absent}, true, restore.Absent, "others could not tell: who knows"},
		"the store agrees":           {[]restore.Source{absent, agrees}, false, restore.Absent, "it ended"},
		"only the store says so":     {[]restore.Source{agrees}, false, restore.Unknown, "nothing is stored"},
		"it agrees, one is silent":   {[]restore.Source{unknown, agrees}, false, restore.Unknown, "who knows"},
		"it agrees, not all do":      {[]restore.Source{absent, agrees, unknown}, false, restore.Unknown, "leave it out"},
		"nobody knows":               {[]restore.Source{unknown, unknown}, true, restore.Unknown, "who knows; who knows"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			q := restore.Query{Name: segmentName, AcceptDataLoss: c.accept}
			d := restore.Fetch(t.Context(), q, filepath.Join(t.TempDir(), "out"), c.sources, 0)
			if d.Kind != c.want || !strings.Contains(d.Text, c.text) {
				t.Errorf("%v: %q; want %v, and %q", d.Kind, d.Text, c.want, c.text)
			}
		})
	}
}

func TestFetchAsksAgainAndThenNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		busy := sourceFunc(func() restore.Found {
			asked++
			return restore.Found{Decision: restore.Decision{Text: "not now", Retry: true}}
		})
		start := time.Now()
		d := restore.Fetch(t.Context(), restore.Query{}, "", []restore.Source{busy}, 10*time.Second)
		if d.Kind != restore.Unknown || d.Text != "not now" {
			t.Errorf("%v: %s", d.Kind, d.Text)
		}
		if took := time.Since(start); asked < 4 || took > 10*time.Second || took < 3*time.Second {
			t.Errorf("asked %d times in %v", asked, took)
		}
	})
}

func TestFetchWithoutRetryAsksOnce(t *testing.T) {
	for name, retry := range map[string]bool{"nothing would change": false, "no time is given": true} {
		asked := 0
		s := sourceFunc(func() restore.Found {
			asked++
			return restore.Found{Decision: restore.Decision{Text: "no", Retry: retry}}
		})
		limit := time.Hour
		if retry {
			limit = 0
		}
		restore.Fetch(t.Context(), restore.Query{}, "", []restore.Source{s}, limit)
		if asked != 1 {
			t.Errorf("%s: asked %d times", name, asked)
		}
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		busy := sourceFunc(func() restore.Found {
			cancel(errors.New("terminated"))
			return restore.Found{Decision: restore.Decision{Text: "not now", Retry: true}}
		})
		if d := restore.Fetch(ctx, restore.Query{}, "", []restore.Source{busy}, time.Hour); !strings.Contains(d.Text, "terminated") {
			t.Errorf("%v: %s", d.Kind, d.Text)
		}
	})
}

// TestFileIsWholeOrNotThere: what is cut off, or other bytes, never gets the name.
func TestFileIsWholeOrNotThere(t *testing.T) {
	good := file("the bytes of a segment")
	cut := good
	cut.body = cut.body[:5]
	other := good
	other.body = "THE BYTES OF A SEGMENT"
	for name, c := range map[string]struct {
		reply reply
		want  restore.Kind
	}{"whole": {good, restore.Present}, "cut off": {cut, restore.Unknown}, "other bytes": {other, restore.Unknown}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "RECOVERYXLOG")
			if err := os.WriteFile(path+".sluice", []byte("left by a kill, and longer than what comes"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := server(t, restore.ServerConfig{}, serve(t, c.reply))
			d := restore.Fetch(t.Context(), restore.Query{Name: segmentName}, path, []restore.Source{s}, 0)
			if d.Kind != c.want || (c.want == restore.Unknown && !d.Retry) {
				t.Errorf("%v: %s", d.Kind, d.Text)
			}
			got, err := os.ReadFile(path)
			if c.want == restore.Present && string(got) != c.reply.body || c.want != restore.Present && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is %q, %v", got, err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 1 {
				t.Errorf("something was left behind: %v", entries)
			}
		})
	}
}

func TestPlaceThatCannotBeWrittenIsNotTriedAgain(t *testing.T) {
	s := server(t, restore.ServerConfig{}, serve(t, file("bytes")))
	d := restore.Fetch(t.Context(), restore.Query{Name: segmentName}, filepath.Join(t.TempDir(), "no", "such", "dir"), []restore.Source{s}, time.Hour)
	if d.Kind != restore.Unknown || d.Retry || !strings.Contains(d.Text, "no such file or directory") {
		t.Errorf("%v, retry %t: %s", d.Kind, d.Retry, d.Text)
	}
}

func TestFirstSourceThatHasItGivesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	away := server(t, restore.ServerConfig{}, nobody(t))
	has := server(t, restore.ServerConfig{}, serve(t, http.HandlerFunc(file("bytes").ServeHTTP)))
	d := restore.Fetch(t.Context(), restore.Query{Name: segmentName}, path, []restore.Source{away, says(restore.Absent, "no"), has}, 0)
	if got, err := os.ReadFile(path); d.Kind != restore.Present || string(got) != "bytes" {
		t.Errorf("%v: %s; the file is %q, %v", d.Kind, d.Text, got, err)
	}
}
