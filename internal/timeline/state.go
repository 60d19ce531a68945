package timeline

import "slices"

// State is where a timeline is in its life on this node.
type State string

// The states. A broken timeline is readable and not served; so is a stopped one
// that has a reason.
const (
	StateCreating State = "creating"
	StateRunning  State = "running"
	StateStopping State = "stopping"
	StateStopped  State = "stopped"
	StateBroken   State = "broken"
)

// States lists all states.
func States() []State {
	return []State{StateCreating, StateRunning, StateStopping, StateStopped, StateBroken}
}

// Transition is a way from one state to another.
type Transition struct {
	From, To State
	When     string
}

// transitions are all there are; a state changes in no other way. A timeline that
// is broken stays so: what can be opened again is another [Timeline].
var transitions = [...]Transition{
	{StateCreating, StateRunning, "its control file was read, and its WAL opened"},
	{StateCreating, StateBroken, "its control file, or its WAL, cannot be used"},
	{StateCreating, StateStopped, "its tenant does nothing on this node, or its life has ended elsewhere"},
	{StateRunning, StateStopping, "a shutdown began: of the node, for a deletion here or elsewhere, for another mode of the tenant"},
	{StateStopping, StateStopped, "its gate is closed, its control file saved, its files are closed"},
}

// Transitions lists all transitions.
func Transitions() []Transition { return slices.Clone(transitions[:]) }

// moveLocked goes over to a state, if there is a way, and reports whether it did.
func (t *Timeline) moveLocked(to State) bool {
	there := slices.ContainsFunc(transitions[:], func(w Transition) bool { return w.From == t.state && w.To == to })
	if there {
		t.state = to
	}
	return there
}

// move is moveLocked; why is the reason of a state that needs one.
func (t *Timeline) move(to State, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moveLocked(to) {
		t.why = why
	}
}

// State returns the state, and the reason of a timeline that is broken, or stopped
// because of its tenant's mode, or because its life has ended elsewhere.
func (t *Timeline) State() (State, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.why
}
