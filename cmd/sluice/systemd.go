package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, if it waits for a word; see sd_notify(3).
func (p *process) notify(ctx context.Context, lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "systemd cannot be told", slog.Any("error", err))
	}
}

// extendTimeout keeps systemd from killing a shutdown that is within its own time: its TimeoutStopSec may be shorter.
func extendTimeout(limit time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit + limit/5).Microseconds())
}

// watchdog tells systemd that the node lives, twice as often as the unit's WatchdogSec asks for. The node is asked first: one
// whose locks are stuck says nothing, and is restarted. The function that is returned ends that.
func (p *process) watchdog(ctx context.Context) (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "the watchdog's environment cannot be used", slog.Any("error", err))
	}
	if err != nil || interval == 0 {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p.feed(ctx, interval/2, quit)
	}()
	return func() {
		close(quit)
		select {
		case <-ended:
		case <-time.After(interval): // it is stuck with the node, and ends with the process
		}
	}
}

func (p *process) feed(ctx context.Context, every time.Duration, quit <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		_ = p.node.Tenants()
		p.notify(ctx, daemon.SdNotifyWatchdog)
		select {
		case <-quit:
			return
		case <-ticker.C:
		}
	}
}
