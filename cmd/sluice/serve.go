package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
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

// lastAnswers is how long those who asked how the node is have to read the answer, at the end.
const lastAnswers = time.Second

// gcPercent is GOGC where the environment sets none: the collector works when there is four tenths as much garbage as is in use. What is
// busy here allocates next to nothing, so that collecting more often costs little, and the memory of thousands of idle timelines counts.
const gcPercent = 40

// process is a node that runs.
type process struct {
	cfg    *config.Config
	tel    *telemetry.Telemetry
	log    *slog.Logger
	node   *node
	stages *stages
	// diagnostics are written when something is stuck.
	diagnostics *diagnostics
	keeper      *keeper.Keeper
	http        *http.Server
	// hangUp cancels the requests under way: those who read their answer have a second more.
	hangUp context.CancelFunc
	ended  chan error // what the HTTP server ended with; has room for it
}

// serve runs a node until ctx ends, and stops it.
func serve(ctx context.Context, cfg *config.Config) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	tel, err := telemetry.Start(ctx, telemetryConfig(cfg))
	if err != nil {
		return fmt.Errorf("start telemetry: %w", err)
	}
	p, err := newProcess(cfg, tel)
	if err != nil {
		return errors.Join(err, tel.Shutdown(ctx))
	}
	defer p.diagnostics.stop()
	stopWatchdog := p.watchdog(ctx)
	defer stopWatchdog()
	stopLooking := p.lookForStuck(ctx)
	defer stopLooking()
	if err := p.startWithin(ctx); errors.Is(err, errStartAbandoned) {
		return err // what goes on must not be stopped beside it
	} else if err != nil {
		return errors.Join(err, p.stop("failed to start"))
	}
	return p.stop(p.wait(ctx))
}

func newProcess(cfg *config.Config, tel *telemetry.Telemetry) (*process, error) {
	p := &process{cfg: cfg, tel: tel, log: tel.Logger(), node: newNode(cfg.Node.ID, thisBuild().version, tel), ended: make(chan error, 1)}
	for _, peer := range cfg.Peers {
		p.node.peers = append(p.node.peers, api.PeerInfo{ID: peer.ID, URL: peer.URL, Silent: true})
	}
	p.diagnostics = &diagnostics{dir: filepath.Join(cfg.Node.DataDir, diagnosticsDir), gates: p.node.Gates}
	if cfg.Telemetry.FlightRecorder {
		var err error
		if p.diagnostics.flight, err = recordFlight(); err != nil {
			return nil, err
		}
	}
	p.stages = &stages{node: p.node, log: p.log, tel: tel, diagnose: p.diagnostics.write, tell: p.notify}
	p.node.shutdown = p.stages
	tel.Watch(numbers{node: p.node, dataDir: cfg.Node.DataDir, stages: p.stages})
	return p, nil
}

// lookForStuck shows what is stuck until the function that it returns is called, or the node begins to stop.
func (p *process) lookForStuck(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	watch := &stuckWatch{node: p.node, log: p.log, tel: p.tel, diagnose: p.diagnostics.write}
	done := make(chan struct{})
	go func() { defer close(done); watch.run(ctx) }()
	return func() { cancel(); <-done }
}

// errStartAbandoned is the end of a start that does not listen to the signal to stop.
var errStartAbandoned = errors.New("the node was told to stop while it started, and did not within shutdown_timeout")

// startWithin starts the node. Once ctx has ended, it has the time of a shutdown to notice.
func (p *process) startWithin(ctx context.Context) error {
	started := make(chan error, 1)
	go func() { started <- p.start(ctx) }() // left behind only by a process that exits
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-started:
		return err
	case <-time.After(p.cfg.ShutdownTimeout):
		return errStartAbandoned
	}
}

func telemetryConfig(cfg *config.Config) telemetry.Config {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Telemetry.LogLevel)) // config has checked it
	return telemetry.Config{
		NodeID: cfg.Node.ID, Version: thisBuild().version, Revision: thisBuild().revision,
		OTLPEndpoint: cfg.Telemetry.OTLPEndpoint,
		SampleRatio:  cfg.Telemetry.TraceSampleRatio, SampleRatioSet: cfg.IsSet("telemetry.trace_sample_ratio"),
		PyroscopeURL: cfg.Telemetry.PyroscopeURL, SpanProfiles: cfg.Telemetry.SpanProfiles,
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
	if names := telemetry.WithoutEffect(os.Environ()); len(names) > 0 {
		p.log.LogAttrs(ctx, slog.LevelInfo, "variables of the environment without effect here", slog.Any("variables", names))
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
		Store: p.storeConfig(), Broker: p.brokerConfig(), Events: keeperEvents(p.tel), Log: p.log,
	}
	for _, peer := range p.cfg.Peers {
		cfg.Peers = append(cfg.Peers, peer.ID)
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

func (p *process) brokerConfig() broker.Config {
	b := p.cfg.Broker
	cfg := broker.Config{
		URL: b.URL, ClusterListen: b.ClusterListen, Routes: b.Routes,
		CredentialsFile: b.CredentialsFile, TLS: broker.TLS{CA: b.TLS.CA, Cert: b.TLS.Cert, Key: b.TLS.Key},
	}
	if cfg.Reaches() {
		cfg.Events = p.tel.BrokerEvents()
	}
	return cfg
}

func (p *process) listen(ctx context.Context) error {
	server := api.New(p.node, api.Config{
		Log: p.log, Metrics: p.tel.Metrics(), TimelineMetrics: p.tel.TimelineMetrics(),
		Report: p.report(), Pprof: p.cfg.Telemetry.Pprof,
		Events: api.Events{Addressed: p.tel.HTTPAddressed, Answered: p.tel.HTTPAnswered}, Admit: p.node.admit,
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

// report is what only a report has.
func (p *process) report() api.Report {
	return api.Report{Config: p.cfg.Masked, Log: p.tel.RecentLog, Diagnostics: p.diagnostics.newest}
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

// stop stops what was started, in order; how the node is can be asked almost to the end. Whatever hangs: the
// process ends soon after its time is over.
func (p *process) stop(cause string) error {
	ctx := context.Background()
	p.log.LogAttrs(ctx, slog.LevelInfo, "node stops", slog.String("cause", cause), slog.Duration("limit", p.cfg.ShutdownTimeout))
	timeout := p.cfg.ShutdownTimeout
	err := within(ctx, timeout*11/10, timeout/graceShare, func(ctx context.Context) error {
		return p.stages.run(ctx, cause, timeout, p.shutdown())
	})
	if err == nil {
		p.log.LogAttrs(ctx, slog.LevelInfo, "node stopped")
	}
	return err
}

// shutdown has the stages of a shutdown, in their order.
func (p *process) shutdown() []stage {
	return []stage{
		{name: "readiness", share: 1, stop: p.unready},
		{name: "broker", share: 1, stop: p.leave},
		{name: "drain", share: 38, stop: p.drain, waitsFor: p.undrained},
		{name: "tenants", share: 38, stop: p.stopTenants},
		{name: "broker_connection", share: 2, stop: p.disconnect},
		{name: "http", share: 10, stop: p.stopHTTP},
		{name: "telemetry", share: 10, stop: p.tel.Shutdown, flushes: true},
	}
}

// unready tells those who send work to this node that it stops; /readyz says so since the stage began.
func (p *process) unready(ctx context.Context) error {
	p.notify(ctx, daemon.SdNotifyStopping, extendTimeout(p.cfg.ShutdownTimeout))
	return nil
}

// leave tells the other nodes that this one stops, so that what is its turn is another's.
func (p *process) leave(ctx context.Context) error {
	if p.keeper == nil {
		return nil
	}
	return p.keeper.Leave(ctx)
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
	return p.keeper.Stop(ctx)
}

// disconnect ends the connection to the other nodes, and lets go of the data directory.
func (p *process) disconnect(ctx context.Context) error {
	if p.keeper == nil {
		return nil
	}
	return p.keeper.Disconnect(ctx)
}

// undrained names the timelines of which object storage lacks something.
func (p *process) undrained() []string {
	if p.keeper == nil {
		return nil
	}
	var names []string
	for _, m := range p.keeper.Members() {
		l := m.Log()
		if l == nil {
			continue
		}
		if stored, held := m.Backup().LSN, l.Stats().CommitEnd; stored < held {
			names = append(names, fmt.Sprintf("timeline %s: stored up to %s, held up to %s", m.ID(), stored, held))
		}
	}
	return names
}

// stopHTTP ends the requests under way, while it still answers how the node is; then it listens no more. A request that
// does not end is an error, a client that does not read or send is none.
func (p *process) stopHTTP(ctx context.Context) error {
	if p.http == nil {
		return nil
	}
	p.hangUp()
	err := p.node.visits.Close(ctx)
	ctx, cancel := context.WithTimeout(ctx, lastAnswers)
	defer cancel()
	if shutdownErr := p.http.Shutdown(ctx); shutdownErr != nil {
		p.log.LogAttrs(ctx, slog.LevelDebug, "connections were cut off", slog.Any("error", shutdownErr))
		err = errors.Join(err, p.http.Close())
	}
	if endErr := <-p.ended; !errors.Is(endErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve HTTP: %w", endErr))
	}
	return err
}
