package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/config"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/telemetry"
)

// serveCmd runs a node.
type serveCmd struct {
	Config string `help:"The configuration file; without one, every key has its default." placeholder:"FILE" type:"path"`
}

// Run serves until ctx ends, with the first SIGTERM or SIGINT.
func (c *serveCmd) Run(ctx context.Context) error {
	cfg := config.Default()
	if c.Config != "" {
		var err error
		if cfg, err = config.Load(c.Config); err != nil {
			return err
		}
	}
	return serve(ctx, cfg)
}

// process is a node that runs.
type process struct {
	cfg    *config.Config
	tel    *telemetry.Telemetry
	log    *slog.Logger
	node   *node
	stages *stages
	keeper *keeper.Keeper
	http   *http.Server
	// hangUp ends the requests under way: those who read their answer have a second more.
	hangUp context.CancelFunc
	ended  chan error // what the HTTP server ended with; has room for it
}

// serve runs a node until ctx ends, and stops it.
func serve(ctx context.Context, cfg *config.Config) error {
	tel, err := telemetry.Start(ctx, telemetryConfig(cfg))
	if err != nil {
		return fmt.Errorf("start telemetry: %w", err)
	}
	p := &process{cfg: cfg, tel: tel, log: tel.Logger(), node: newNode(cfg.Node.ID, thisBuild().version, tel), ended: make(chan error, 1)}
	p.stages = &stages{node: p.node, log: p.log, tel: tel}
	tel.Watch(numbers{node: p.node, dataDir: cfg.Node.DataDir, stages: p.stages})
	err = p.start(ctx)
	cause := "failed to start"
	if err == nil {
		cause = p.wait(ctx)
	}
	return errors.Join(err, p.stop(cause))
}

func telemetryConfig(cfg *config.Config) telemetry.Config {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Telemetry.LogLevel)) // config has checked it
	return telemetry.Config{
		NodeID: cfg.Node.ID, Version: thisBuild().version, Revision: thisBuild().revision,
		OTLPEndpoint: cfg.Telemetry.OTLPEndpoint,
		SampleRatio:  cfg.Telemetry.TraceSampleRatio, SampleRatioSet: cfg.IsSet("telemetry.trace_sample_ratio"),
		TimelineLimit: cfg.Telemetry.TimelineMetricsLimit, LogLevel: level, LogFormat: cfg.Telemetry.LogFormat,
	}
}

// start listens first, so that a node that is starting can be asked, and then
// opens the timelines.
func (p *process) start(ctx context.Context) error {
	p.log.LogAttrs(ctx, slog.LevelInfo, "node starts", slog.String("node", p.cfg.Node.ID), slog.String("version", thisBuild().version))
	if keys := config.WithoutEffect(p.cfg); len(keys) > 0 {
		p.log.LogAttrs(ctx, slog.LevelInfo, "keys of the configuration without effect in this version", slog.Any("keys", keys))
	}
	if err := p.listen(ctx); err != nil {
		return err
	}
	k, err := keeper.Open(ctx, p.keeperConfig())
	if err != nil {
		return err
	}
	p.keeper = k
	p.node.serve(k)
	p.node.enter(stageRunning)
	p.notify(ctx, daemon.SdNotifyReady)
	p.log.LogAttrs(ctx, slog.LevelInfo, "node runs", slog.String("http", p.http.Addr), slog.Int("timelines", len(k.Members())))
	return nil
}

func (p *process) keeperConfig() keeper.Config {
	cfg := keeper.Config{
		NodeID: p.cfg.Node.ID, DataDir: p.cfg.Node.DataDir,
		Retain: int64(p.cfg.Retain.LocalBytes), DropUnbacked: p.cfg.Retain.Unbacked == config.DropUnbacked,
		Store: p.storeConfig(), Events: keeperEvents(p.tel), Log: p.log,
	}
	for _, t := range p.cfg.Timelines {
		id, err := timeline.ParseID(t.Name)
		if err != nil {
			panic(err) // config has checked it
		}
		cfg.Timelines = append(cfg.Timelines, keeper.TimelineConfig{ID: id, Source: t.Source})
	}
	return cfg
}

func (p *process) storeConfig() keeper.StoreConfig {
	o := p.cfg.ObjectStore
	return keeper.StoreConfig{
		URL: o.URL, Compression: backup.Compression(o.Compression), PartialInterval: o.PartialInterval,
		Backup: backup.Config{Concurrency: o.Concurrency, Log: p.log, Events: p.tel.BackupEvents()},
	}
}

func (p *process) listen(ctx context.Context) error {
	server := api.New(p.node, api.Config{
		Log: p.log, Metrics: p.tel.Metrics(), TimelineMetrics: p.tel.TimelineMetrics(),
		Events: api.Events{Answered: p.tel.HTTPAnswered},
	})
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.cfg.Listen.HTTP)
	if err != nil {
		return fmt.Errorf("listen.http: %w", err)
	}
	requests, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	p.hangUp = hangUp
	p.http = &http.Server{
		BaseContext: func(net.Listener) context.Context { return requests },
		Addr:        l.Addr().String(), Handler: server.Handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	go func() { p.ended <- p.http.Serve(l) }() // stopHTTP waits for it
	return nil
}

// wait returns why the node stops.
func (p *process) wait(ctx context.Context) string {
	select {
	case <-ctx.Done():
		return context.Cause(ctx).Error()
	case err := <-p.ended:
		p.ended <- err
		return "the HTTP server ended"
	}
}

// stop stops what was started, in order; the status is served almost to the end.
func (p *process) stop(cause string) error {
	ctx := context.Background()
	p.log.LogAttrs(ctx, slog.LevelInfo, "node stops", slog.String("cause", cause))
	p.notify(ctx, daemon.SdNotifyStopping)
	err := p.stages.run(ctx, cause, p.cfg.ShutdownTimeout, []stage{
		{"drain", 40, p.drain},
		{"tenants", 40, p.stopTenants},
		{"http", 10, p.stopHTTP},
		{"telemetry", 10, p.tel.Shutdown},
	})
	if err == nil {
		p.log.LogAttrs(ctx, slog.LevelInfo, "node stopped")
	}
	return err
}

// drain brings what is held to object storage, as far as the time allows. What it did not come to is no failure of the
// shutdown: it is on the disk, and goes on at the next start.
func (p *process) drain(ctx context.Context) error {
	if p.keeper == nil {
		return nil
	}
	if err := p.keeper.Drain(ctx); err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "object storage does not have all that is held here: keep this disk", slog.Any("error", err))
	}
	return nil
}

func (p *process) stopTenants(ctx context.Context) error {
	if p.keeper == nil {
		return nil
	}
	return p.keeper.Shutdown(ctx)
}

func (p *process) stopHTTP(ctx context.Context) error {
	if p.http == nil {
		return nil
	}
	p.hangUp()
	if err := p.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests under way were cut off: %w", err), p.http.Close())
	}
	if err := <-p.ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// notify tells systemd, if it waits for a word.
func (p *process) notify(ctx context.Context, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "systemd cannot be told", slog.Any("error", err))
	}
}
