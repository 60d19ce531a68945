package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/api/client"
	"github.com/sluicewal/sluice/internal/timeline"
)

// sayEvery is how often a verb that waits says for whom.
const sayEvery = time.Second

// saying runs work, and says on w what look finds out meanwhile. A node that cannot be asked, or has nothing to tell, is
// no reason to say anything: how the work ends, work tells.
func saying(ctx context.Context, w io.Writer, look func(context.Context) string, work func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(sayEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if text := look(ctx); text != "" && ctx.Err() == nil {
				fmt.Fprintln(w, text)
			}
		}
	})
	err := work()
	cancel()
	watching.Wait()
	return err
}

// lookAtTimeline says which step of its operation a timeline is at, and whom it waits for.
func lookAtTimeline(cl *client.Client, id timeline.ID) func(context.Context) string {
	return func(ctx context.Context) string {
		s, err := cl.Timeline(ctx, id)
		if err != nil {
			return ""
		}
		return waitText(s)
	}
}

// lookAtTenant does so for all timelines of a tenant that have something to wait for, and for the tenant itself.
func lookAtTenant(cl *client.Client, id timeline.TenantID) func(context.Context) string {
	return func(ctx context.Context) string {
		var lines []string
		all, _ := cl.Timelines(ctx, id) // none when it cannot be asked
		for _, s := range all {
			if text := waitText(s); text != "" {
				lines = append(lines, s.Tenant+"/"+s.Timeline+": "+text)
			}
		}
		gates, _ := cl.Gates(ctx)
		for _, g := range gates {
			if g.Tenant == string(id) && g.Timeline == "" && len(g.Holders) > 0 {
				lines = append(lines, whose(g)+": "+waitingFor(g.Holders))
			}
		}
		return firstLines(lines)
	}
}

// waitText says what a timeline's operation does at this moment: "delete, at stop for 12 s: waiting for wal_download of
// 000000010000000000000007 for 127.0.0.1:40404 (12s)".
func waitText(s timeline.Status) string {
	text := ""
	if s.Operation != nil {
		text = fmt.Sprintf("%s, at %s for %s", s.Operation.Name, s.Operation.Step, since(s.Operation.Since))
	}
	if s.Gate.State != "closing" || len(s.Gate.Holders) == 0 {
		return text
	}
	return strings.TrimPrefix(text+": "+waitingFor(s.Gate.Holders), ": ")
}

func waitingFor(holders []timeline.GateHolder) string { return "waiting for " + holdersText(holders) }

// saidAtOnce is how many lines a verb says at once; the rest is counted.
const saidAtOnce = 8

func firstLines(lines []string) string {
	if more := len(lines) - saidAtOnce; more > 0 {
		lines = append(lines[:saidAtOnce], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// gateText is the gate of a timeline as `timeline show` has it; empty while it is open.
func gateText(g timeline.GateStatus) string {
	if g.State == "" || g.State == "open" {
		return ""
	}
	if len(g.Holders) == 0 {
		return g.State
	}
	return g.State + ", " + waitingFor(g.Holders)
}
