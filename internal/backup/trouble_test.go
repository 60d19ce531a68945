package backup_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

// behindProxy is an S3 store behind a proxy that fails on request.
func behindProxy(t *testing.T, cfg backup.Config) (*proxy, *backup.Store, *backup.Timeline) {
	t.Helper()
	p := startProxy(t, startS3(t).address)
	s := open(t, s3URL(p.address), cfg)
	return p, s, newTimeline(t, s, backup.Zstd)
}

var some = backup.Range{TLI: 1, From: 5, To: 11}

// caughtUp uploads what is missing, and sees to it that nothing is lost.
func caughtUp(t *testing.T, tl *backup.Timeline, r backup.Range) {
	t.Helper()
	if told, err := run(t.Context(), tl, &disk{}, r); err != nil || len(told) != int(r.To-r.From) {
		t.Errorf("told %v, %v", told, err)
	}
	wantBackupLSN(t, tl, pg.History{TLI: 1}, 5<<20, pg.LSN(r.To)<<20)
	for n := r.From; n < r.To; n++ {
		if got, _ := content(t, tl, 1, n); !bytes.Equal(got, segment(uint64(n))) {
			t.Errorf("segment %d has other bytes", n)
		}
	}
}

// TestFaultsLoseNothing (U1): whatever goes wrong, and whether once or for a time, in the end all is there, and nothing that
// was told is missing.
func TestFaultsLoseNothing(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*http.Request) fault
		is    error // nil: any error, or none
	}{
		"503, for a time":            {on(http.MethodPut, "000000010000000000000009", unavailable), nil},
		"503 for everything":         {func(*http.Request) fault { return unavailable }, nil},
		"reset in the body":          {on(http.MethodPut, "000000010000000000000009", resetIn), nil},
		"stored, says the server":    {on(http.MethodPut, "000000010000000000000009", lie), backup.ErrNotStored},
		"409, come again":            {on(http.MethodPut, "000000010000000000000009", conflict), nil},
		"no answer":                  {on(http.MethodPut, "000000010000000000000009", stalled), backup.ErrCut},
		"no answer to a look":        {on(http.MethodHead, "000000010000000000000009", stalled), backup.ErrCut},
		"credentials revoked":        {func(*http.Request) fault { return revoked }, backup.ErrDenied},
		"credentials revoked midway": {on(http.MethodPut, "000000010000000000000009", revoked), backup.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
			p.fail(c.fault)
			told, err := run(t.Context(), tl, &disk{}, some)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			if conflict := new(backup.ConflictError); errors.As(err, &conflict) {
				t.Errorf("it is taken for an alarm: %v", err)
			}
			if p.failed() == 0 {
				t.Error("nothing went wrong")
			}
			if len(told) > 4 || !slices.IsSorted(told) {
				t.Errorf("told %v", told)
			}
			p.fail(nil)
			for _, n := range told {
				content(t, tl, 1, n)
			}
			caughtUp(t, tl, some)
		})
	}
}

// TestHangingUploadIsCutAndRepeated (U2): within the same run.
func TestHangingUploadIsCutAndRepeated(t *testing.T) {
	p, s, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
	retries := make(chan backup.Retry, 100)
	s.SetEvents(backup.Events{Retried: func(_ context.Context, r backup.Retry) { retries <- r }})
	p.fail(times(1, on(http.MethodPut, "000000010000000000000007", stalled)))
	caughtUp(t, tl, backup.Range{TLI: 1, From: 5, To: 9})
	close(retries)
	if r := <-retries; r.SegNo != 7 || r.Attempt != 1 || !errors.Is(r.Err, backup.ErrCut) {
		t.Errorf("told %+v", r)
	}
}

// TestBrokenDownloadIsNoDamage: a connection that was lost says nothing about the object.
func TestBrokenDownloadIsNoDamage(t *testing.T) {
	for name, f := range map[string]fault{"reset in the body": resetOut, "no answer": stalled, "503": unavailable} {
		t.Run(name, func(t *testing.T) {
			p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
			put(t, tl, 1, 7)
			p.fail(on(http.MethodGet, "/wal/", f))
			_, err := tl.OpenSegment(t.Context(), 1, 7)
			var damaged *backup.DamagedError
			if err == nil || errors.As(err, &damaged) || len(tl.Damaged()) != 0 {
				t.Errorf("got %v", err)
			}
			p.fail(nil)
			content(t, tl, 1, 7)
		})
	}
}

// TestSealSurvivesALostAnswer (F14): it was written, and nobody was told. The next proposal gets it.
func TestSealSurvivesALostAnswer(t *testing.T) {
	p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
	p.fail(on(http.MethodHead, "/seal/", stalled))
	if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x100}); !errors.Is(err, backup.ErrCut) {
		t.Errorf("got %+v, %v", s, err)
	}
	p.fail(nil)
	if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x200}); err != nil || s.End != 0x100 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestUnknownIsNotAbsent: a store that does not answer says nothing about what is in it.
func TestUnknownIsNotAbsent(t *testing.T) {
	p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
	put(t, tl, 1, 7)
	for name, f := range map[string]func(*http.Request) fault{
		"lists": on(http.MethodGet, "wal", unavailable),
		"looks": on(http.MethodHead, "", unavailable),
		"all":   func(*http.Request) fault { return revoked },
	} {
		p.fail(f)
		if s, err := tl.SurveySegment(t.Context(), 8); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
		if s, err := tl.SurveyHistory(t.Context(), 2); name != "looks" && err == nil {
			t.Errorf("%s, of a history: %+v", name, s)
		}
	}
}

// TestStoreThatOverwritesIsRefused (O2).
func TestStoreThatOverwritesIsRefused(t *testing.T) {
	p := startProxy(t, startS3(t).address)
	p.fail(on(http.MethodPut, "sluice.probe", lie))
	_, err := backup.Open(t.Context(), s3URL(p.address), backup.Config{Node: "a"})
	if !errors.Is(err, backup.ErrNotStored) {
		t.Errorf("a store that stores nothing: %v", err)
	}
	first := true
	p.fail(func(r *http.Request) fault { // the first write is done, the second one answered with 200
		if r.Method != http.MethodPut || first {
			first = first && r.Method != http.MethodPut
			return none
		}
		return lie
	})
	_, err = backup.Open(t.Context(), s3URL(p.address), backup.Config{Node: "a"})
	if !errors.Is(err, backup.ErrUnconditional) || !strings.Contains(err.Error(), "sluice.probe.a") {
		t.Errorf("a store that overwrites: %v", err)
	}
	p.fail(nil)
	open(t, s3URL(p.address), backup.Config{Node: "a"})
}

func TestWrongCredentialsAreNamed(t *testing.T) {
	server := startS3(t)
	for name, env := range map[string][2]string{
		"secret": {"AWS_SECRET_ACCESS_KEY", "wrong"}, "key": {"AWS_ACCESS_KEY_ID", "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(env[0], env[1])
			_, err := backup.Open(t.Context(), s3URL(server.address), backup.Config{Node: "a"})
			if !errors.Is(err, backup.ErrDenied) || strings.Contains(err.Error(), "a secret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMissingBucketIsNamed(t *testing.T) {
	url := strings.Replace(s3URL(startS3(t).address), "://"+bucket, "://other", 1)
	for _, readOnly := range []bool{false, true} {
		_, err := backup.Open(t.Context(), url, backup.Config{Node: "a", ReadOnly: readOnly})
		if !errors.Is(err, backup.ErrNoBucket) {
			t.Errorf("read only %v: %v", readOnly, err)
		}
	}
}

// TestDirectoryOnADiskThatIsGone: an error when it is opened, not when the first segment comes.
func TestDirectoryOnADiskThatIsGone(t *testing.T) {
	if _, err := backup.Open(t.Context(), "file:///dev/null/objects", backup.Config{Node: "a"}); err == nil {
		t.Error("it was opened")
	}
}
