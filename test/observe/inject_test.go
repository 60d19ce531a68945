package observe

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// fault is something that goes wrong, and the alert that has to say so.
type fault struct {
	title string
	// labels are those that the alert must have, its name among them.
	labels map[string]string
	begin  func(context.Context) error
	during func() // what else is looked at while the alert fires; nil: nothing
	end    func(context.Context) error
	// fires and resolves are how long that may take: the rule's 'for' and the windows in it, what notices the fault, and some scrapes.
	fires, resolves time.Duration
	// explains are the labels of other alerts that the fault may cause. One with the right name that is about something else is
	// none of them.
	explains []map[string]string
}

// inject begins a fault, waits for its alert in Prometheus and in Alertmanager, ends it, and waits for the alert's end.
func (o *observed) inject(f fault) error {
	o.record.explain(append(f.explains, f.labels)...)
	o.say("%s", f.title)
	if err := f.begin(o.ctx); err != nil {
		return fmt.Errorf("%s: begin: %w", f.title, err)
	}
	a, took, err := o.record.await(o.ctx, f.labels, true, f.fires)
	if err == nil {
		err = o.notified(f)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", f.title, err), f.end(o.ctx))
	}
	o.say("   fires after %v: %s", took.Round(time.Second), a)
	if f.during != nil {
		f.during()
	}
	if err := f.end(o.ctx); err != nil {
		return fmt.Errorf("%s: end: %w", f.title, err)
	}
	if _, took, err = o.record.await(o.ctx, f.labels, false, f.resolves); err != nil {
		return fmt.Errorf("%s: its end: %w", f.title, err)
	}
	o.say("   %s resolved %v after the fault ended", a.name(), took.Round(time.Second))
	return nil
}

// notified waits until Alertmanager would tell somebody.
func (o *observed) notified(f fault) error {
	ctx, cancel := context.WithTimeout(o.ctx, patience)
	defer cancel()
	return rig.Poll(ctx, time.Second, func() (bool, error) {
		active, err := o.watch.alertmanager.active(ctx)
		if err != nil {
			return false, err
		}
		for _, a := range active {
			if a.has(f.labels) {
				return true, nil
			}
		}
		return false, nil
	})
}

// faults returns those that are injected alone, because a node stops, and the others; of all those that -only says.
func (o *observed) faults() (alone, others []fault) {
	wanted := regexp.MustCompile(*only)
	unwanted := func(f fault) bool { return !wanted.MatchString(f.title) }
	return slices.DeleteFunc([]fault{o.stuckReader()}, unwanted),
		slices.DeleteFunc([]fault{o.storm(), o.failingTask(), o.silentSource(), o.deadStore()}, unwanted)
}

// of makes an alert's labels.
func of(name string, pairs ...string) map[string]string {
	labels := map[string]string{"alertname": name}
	for i := 0; i < len(pairs); i += 2 {
		labels[pairs[i]] = pairs[i+1]
	}
	return labels
}

func (o *observed) storm() fault {
	n := o.nodes[0]
	return fault{
		title:  "the manager of acme/storm on node " + n.ID() + " wakes itself, again and again",
		labels: of("SluiceIterationStorm", "scope", "timeline", "instance", address(n), "tenant", tenant, "timeline", "storm"),
		begin:  func(context.Context) error { return o.switchOn(n, "storm", "manager-storms", "") },
		end:    func(context.Context) error { return o.switchOff(n, "storm", "manager-storms") },
		fires:  3 * time.Minute, resolves: 3 * time.Minute,
		explains: []map[string]string{
			of("SluiceIterationStorm", "scope", "node", "instance", address(n)), of("SluiceIterationsNoEffect", "instance", address(n)),
		},
	}
}

func (o *observed) failingTask() fault {
	n := o.nodes[1]
	return fault{
		title:  "the task settings of acme/failing on node " + n.ID() + " fails whenever it is started",
		labels: of("SluiceTaskRestarts", "instance", address(n), "tenant", tenant, "timeline", "failing"),
		begin:  func(context.Context) error { return o.switchOn(n, "failing", "task-fails", "settings") },
		end:    func(context.Context) error { return o.switchOff(n, "failing", "task-fails") },
		fires:  6 * time.Minute, resolves: 4 * time.Minute,
	}
}

// stuckReader stops a node while a reader's disk read hangs.
func (o *observed) stuckReader() fault {
	n := o.nodes[2]
	stopped := make(chan error, 1)
	begin := func(ctx context.Context) error {
		segment := o.firstSegment(n, "reader")
		if err := o.switchOn(n, "reader", "read-hangs", segment); err != nil {
			return err
		}
		o.download(n, "reader", segment)
		o.await("the reader's read hangs", func(ctx context.Context) bool { return o.readHangs(ctx, n, "reader") })
		go func() { stopped <- n.Stop(ctx) }()
		return nil
	}
	end := func(ctx context.Context) error {
		if err := o.switchOff(n, "reader", "read-hangs"); err != nil {
			return err
		}
		if err := <-stopped; err != nil {
			return fmt.Errorf("the node did not stop in order: %w", err)
		}
		if err := n.Start(ctx); err != nil {
			return err
		}
		o.allStream()
		return nil
	}
	return fault{
		title:  "node " + n.ID() + " stops, and a reader of acme/reader whose disk read hangs is inside",
		labels: of("SluiceGateCloseStuck", "instance", address(n), "tenant", tenant, "timeline", "reader", "holder", "wal_download"),
		begin:  begin, end: end, fires: time.Minute, resolves: 2 * time.Minute,
		during: func() {
			o.say("   its trace, while it waits: %s", o.jaeger.showsWaiting(o.world, "wal_download"))
		},
		explains: []map[string]string{
			of("SluiceShutdownStageLate", "instance", address(n)),
			// The timeline's manager waits as well, and with them the tenant.
			of("SluiceGateCloseStuck", "instance", address(n), "tenant", tenant, "timeline", "reader", "holder", "manager"),
			of("SluiceGateCloseStuck", "instance", address(n), "tenant", tenant, "timeline", ""),
		},
	}
}

func (o *observed) silentSource() fault {
	s := o.sources["silent"]
	return fault{
		title:  "the source of acme/silent hangs: its connections stay, and nothing comes",
		labels: of("SluiceSourceDisconnected", "tenant", tenant, "timeline", "silent"),
		begin:  func(context.Context) error { return freeze(s) },
		end:    func(context.Context) error { return thaw(s) },
		// A minute of silence, then two of the rule.
		fires: 4 * time.Minute, resolves: time.Minute,
		explains: []map[string]string{
			of("SluiceTaskRestarts", "tenant", tenant, "timeline", "silent"), of("SluiceQuorumAtRisk", "tenant", tenant, "timeline", "silent"),
		},
	}
}

func (o *observed) deadStore() fault {
	return fault{
		title:  "object storage is gone",
		labels: of("SluiceObjectStoreErrors"),
		begin:  func(context.Context) error { return o.s3.Stop() },
		end:    func(context.Context) error { return o.s3.Start() },
		// Two minutes of tries that succeeded before, then two of the rule.
		fires: 5 * time.Minute, resolves: 3 * time.Minute,
		explains: []map[string]string{
			of("SluiceObjectStoreUnavailable"), of("SluiceObjectStoreHangs"), of("SluiceBackupTasksPileUp"), of("SluiceTaskRestarts"),
		},
	}
}
