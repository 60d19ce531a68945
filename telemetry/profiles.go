package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/grafana/pyroscope-go"
)

// pushTimeout bounds each push of a profile: the client has no other limit, and a server that hangs would hold the shutdown.
const pushTimeout = 2 * time.Second

// startProfiles pushes profiles, if it is asked to. The labels of goroutines (task) go with them.
func (t *Telemetry) startProfiles(cfg Config) error {
	if cfg.PyroscopeURL == "" {
		return nil
	}
	u, err := url.Parse(cfg.PyroscopeURL)
	if err != nil {
		return errors.New("telemetry.pyroscope_url is not a URL") // its text may hold a secret
	}
	user, password := u.User.Username(), ""
	if u.User != nil {
		password, _ = u.User.Password()
		u.User = nil
	}
	every := cfg.ProfileEvery
	if every == 0 {
		every = 15 * time.Second
	}
	t.profiler, err = pyroscope.Start(pyroscope.Config{
		ApplicationName: scopeName, ServerAddress: u.String(), BasicAuthUser: user, BasicAuthPassword: password,
		Tags:       map[string]string{"node": cfg.NodeID, "version": cfg.Version},
		UploadRate: every, DisableGCRuns: true,
		HTTPClient:   &http.Client{Timeout: pushTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
		Logger:       pushErrors{t.errors},
		ProfileTypes: append(pyroscope.DefaultProfileTypes, pyroscope.ProfileGoroutines),
	})
	if err != nil {
		return fmt.Errorf("start the push of profiles: %w", err)
	}
	return nil
}

// stopProfiles pushes the last profiles, until ctx ends; what goes on then ends with its timeout.
func (t *Telemetry) stopProfiles(ctx context.Context) error {
	if t.profiler == nil {
		return nil
	}
	t.stopProfiler.Do(func() {
		t.profilerDone = make(chan struct{})
		go func() { defer close(t.profilerDone); _ = t.profiler.Stop() }()
	})
	select {
	case <-t.profilerDone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("push the last profiles: %w", context.Cause(ctx))
	}
}

// pushErrors reports what went wrong with a push; the rest of what the client says is of no use to anybody.
type pushErrors struct{ *reporter }

// Infof implements pyroscope.Logger.
func (pushErrors) Infof(string, ...any) {}

// Debugf implements pyroscope.Logger.
func (pushErrors) Debugf(string, ...any) {}

// Errorf implements pyroscope.Logger.
func (p pushErrors) Errorf(format string, args ...any) {
	p.report("profiles", fmt.Errorf(format, args...)) //nolint:err113 // the client's own words
}
