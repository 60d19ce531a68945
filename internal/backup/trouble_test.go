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
	"github.com/sluicewal/sluice/test/rig"
)

// behindProxy is an S3 store behind a proxy that fails on request.
func behindProxy(t *testing.T, cfg backup.Config) (*rig.S3Proxy, *backup.Store, *backup.Timeline) {
	t.Helper()
	p := rig.StartS3Proxy(t, startS3(t).Address)
	s := open(t, rig.S3URL(p.Address), cfg)
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
		fault func(*http.Request) rig.S3Fault
		is    error // nil: any error, or none
	}{
		"503, for a time":            {rig.On(http.MethodPut, "000000010000000000000009", rig.Unavailable), nil},
		"503 for everything":         {func(*http.Request) rig.S3Fault { return rig.Unavailable }, nil},
		"reset in the body":          {rig.On(http.MethodPut, "000000010000000000000009", rig.ResetIn), nil},
		"stored, says the server":    {rig.On(http.MethodPut, "000000010000000000000009", rig.Lie), backup.ErrNotStored},
		"409, come again":            {rig.On(http.MethodPut, "000000010000000000000009", rig.Conflict), nil},
		"no answer":                  {rig.On(http.MethodPut, "000000010000000000000009", rig.Stalled), backup.ErrCut},
		"no answer to a look":        {rig.On(http.MethodHead, "000000010000000000000009", rig.Stalled), backup.ErrCut},
		"credentials revoked":        {func(*http.Request) rig.S3Fault { return rig.Revoked }, backup.ErrDenied},
		"credentials revoked midway": {rig.On(http.MethodPut, "000000010000000000000009", rig.Revoked), backup.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
			p.Fail(c.fault)
			told, err := run(t.Context(), tl, &disk{}, some)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			if conflict := new(backup.ConflictError); errors.As(err, &conflict) {
				t.Errorf("it is taken for an alarm: %v", err)
			}
			if p.Failed() == 0 {
				t.Error("nothing went wrong")
			}
			if len(told) > 4 || !slices.IsSorted(told) {
				t.Errorf("told %v", told)
			}
			p.Fail(nil)
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
	p.Fail(rig.Times(1, rig.On(http.MethodPut, "000000010000000000000007", rig.Stalled)))
	caughtUp(t, tl, backup.Range{TLI: 1, From: 5, To: 9})
	close(retries)
	if r := <-retries; r.SegNo != 7 || r.Attempt != 1 || !errors.Is(r.Err, backup.ErrCut) {
		t.Errorf("told %+v", r)
	}
}

// TestBrokenDownloadIsNoDamage: a connection that was lost says nothing about the object.
func TestBrokenDownloadIsNoDamage(t *testing.T) {
	for name, f := range map[string]rig.S3Fault{"reset in the body": rig.ResetOut, "no answer": rig.Stalled, "503": rig.Unavailable} {
		t.Run(name, func(t *testing.T) {
			p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
			put(t, tl, 1, 7)
			p.Fail(rig.On(http.MethodGet, "/wal/", f))
			_, err := tl.OpenSegment(t.Context(), 1, 7)
			var damaged *backup.DamagedError
			if err == nil || errors.As(err, &damaged) || len(tl.Damaged()) != 0 {
				t.Errorf("got %v", err)
			}
			p.Fail(nil)
			content(t, tl, 1, 7)
		})
	}
}

// TestSealSurvivesALostAnswer (F14): it was written, and nobody was told. The next proposal gets it.
func TestSealSurvivesALostAnswer(t *testing.T) {
	p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
	p.Fail(rig.On(http.MethodHead, "/seal/", rig.Stalled))
	if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x100}); !errors.Is(err, backup.ErrCut) {
		t.Errorf("got %+v, %v", s, err)
	}
	p.Fail(nil)
	if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x200}); err != nil || s.End != 0x100 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestDecisionThatIsOnlyHalfThere: the write is refused because there is one, and it cannot be read: it was taken back in between, or
// the server shows a name before its content (versitygw, while another request writes it). Nobody's word is lost by asking again.
func TestDecisionThatIsOnlyHalfThere(t *testing.T) {
	t.Run("shown too early", func(t *testing.T) {
		p, _, tl := behindProxy(t, backup.Config{})
		p.Fail(rig.Times(2, rig.On(http.MethodGet, "/seal/", rig.Missing)))
		if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x100}); err != nil || s.End != 0x100 {
			t.Errorf("got %+v, %v", s, err)
		}
	})
	t.Run("taken back", func(t *testing.T) {
		p, _, tl := behindProxy(t, backup.Config{})
		p.Fail(rig.Times(1, rig.On(http.MethodPut, "/seal/", rig.Exists)))
		if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x100}); err != nil || s.End != 0x100 {
			t.Errorf("got %+v, %v", s, err)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		p, _, tl := behindProxy(t, backup.Config{})
		p.Fail(rig.On(http.MethodGet, "/seal/", rig.Missing))
		if s, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x100}); !errors.Is(err, backup.ErrNotStored) {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// TestUnknownIsNotAbsent: a store that does not answer says nothing about what is in it.
func TestUnknownIsNotAbsent(t *testing.T) {
	p, _, tl := behindProxy(t, backup.Config{Timeout: 2 * time.Second, MinRate: 1 << 40})
	put(t, tl, 1, 7)
	for name, f := range map[string]func(*http.Request) rig.S3Fault{
		"lists": rig.On(http.MethodGet, "wal", rig.Unavailable),
		"looks": rig.On(http.MethodHead, "", rig.Unavailable),
		"all":   func(*http.Request) rig.S3Fault { return rig.Revoked },
	} {
		p.Fail(f)
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
	p := rig.StartS3Proxy(t, startS3(t).Address)
	p.Fail(rig.On(http.MethodPut, "sluice.probe", rig.Lie))
	_, err := backup.Open(t.Context(), rig.S3URL(p.Address), backup.Config{Node: "a"})
	if !errors.Is(err, backup.ErrNotStored) {
		t.Errorf("a store that stores nothing: %v", err)
	}
	first := true
	p.Fail(func(r *http.Request) rig.S3Fault { // the first write is done, the second one answered with 200
		if r.Method != http.MethodPut || first {
			first = first && r.Method != http.MethodPut
			return rig.NoFault
		}
		return rig.Lie
	})
	_, err = backup.Open(t.Context(), rig.S3URL(p.Address), backup.Config{Node: "a"})
	if !errors.Is(err, backup.ErrUnconditional) || !strings.Contains(err.Error(), "sluice.probe.a") {
		t.Errorf("a store that overwrites: %v", err)
	}
	p.Fail(nil)
	open(t, rig.S3URL(p.Address), backup.Config{Node: "a"})
}

func TestWrongCredentialsAreNamed(t *testing.T) {
	server := startS3(t)
	for name, env := range map[string][2]string{
		"secret": {"AWS_SECRET_ACCESS_KEY", "wrong"}, "key": {"AWS_ACCESS_KEY_ID", "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(env[0], env[1])
			_, err := backup.Open(t.Context(), rig.S3URL(server.Address), backup.Config{Node: "a"})
			if !errors.Is(err, backup.ErrDenied) || strings.Contains(err.Error(), "a secret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMissingBucketIsNamed(t *testing.T) {
	url := strings.Replace(startS3(t).URL(), "://"+rig.S3Bucket, "://other", 1)
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
