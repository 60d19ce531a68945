// Package manager decides which background tasks of a timeline run, again and
// again.
//
// Nobody who changes a timeline's state starts a task, stops one or tells one.
// The timeline's manager watches the state and derives:
//
//	wait → snapshot → plan → apply → wait
//
// [plan] is a pure function of what was seen, the time and the configuration. It
// says which tasks should run and why (and why the others do not), whether the
// timeline is active, whether the control file is saved, when to look again, and
// which changes are worth looking for. Apply is dull: it starts, stops, saves and
// arms what the plan says, and never waits for a task's end, which comes back as
// a wake-up.
//
// What it promises:
//
//   - A change between looking and waiting is not lost (timeline.Wake), and the
//     manager's own changes do not wake it.
//   - An idle timeline has no iterations; a busy one has as many as there are
//     decisions, not bytes.
//   - A task that fails is started again after a pause that grows, with jitter,
//     to a few seconds; so is a save that failed, and an iteration that panicked.
//   - Each iteration is accounted for: its reason, its duration, and whether it
//     did anything. The phase of the manager can be read at any time, without a
//     lock, also while it hangs on a disk.
//
// [Manager.Run] is called once and by one goroutine; all else may be called at
// any time from anywhere.
package manager
