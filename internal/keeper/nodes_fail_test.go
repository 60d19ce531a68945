package keeper

import (
	"os"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/manager"
)

// begin lets all nodes have a whole segment, which commits wait for on two of three, and returns who brought it to object storage.
func (n *nodes) begin() (offloader string) {
	n.t.Helper()
	for id := range n.keepers {
		n.receive(id, start+mib+5000)
	}
	n.waitFor("ANY 2 (a, b, c)")
	n.until("all agree on who backs up", func() bool { offloader = n.offloader(); return offloader != "" })
	for id := range n.keepers {
		n.until("node "+id+" knows that it is backed up", func() bool { return n.member(id).Backup().LSN == start+mib })
	}
	return offloader
}

// TestStuckNodeIsReplaced (U6): nothing gets through to object storage from the node whose turn it is. Another takes over, and keeps the
// turn when the first gets through again.
func TestStuckNodeIsReplaced(t *testing.T) {
	n := newNodesWith(t, func(c *Config) { c.Limits.Stuck = time.Second }, "a", "b", "c")
	stuck := n.begin()
	must(t, os.Remove(n.door(stuck)))
	must(t, os.WriteFile(n.door(stuck), nil, 0o600)) // below a file there are no objects
	for id := range n.keepers {
		n.receive(id, start+3*mib+5000)
	}
	var heir string
	n.until("another has the turn, and all agree", func() bool { heir = n.offloader(); return heir != "" && heir != stuck })
	if why := n.member(heir).manager.Turn().Why; why != manager.WhyPresentStuck {
		t.Errorf("%s has the turn because of %s", heir, why)
	}
	for id := range n.keepers {
		if id != stuck {
			n.until("node "+id+" knows that all is backed up", func() bool { return n.member(id).Backup().LSN == start+3*mib })
		}
	}
	if at := n.member(stuck).Backup().LSN; at != start+mib {
		t.Errorf("%s, which sees no object, takes all below %s for backed up", stuck, at)
	}

	must(t, os.Remove(n.door(stuck)))
	must(t, os.Symlink(n.objects, n.door(stuck)))
	n.until("the first sees what the other has uploaded", func() bool { return n.member(stuck).Backup().LSN == start+3*mib })
	if again := n.offloader(); again != heir {
		t.Errorf("after the repair the turn went from %s to %s", heir, again)
	}
}

// TestDeadNodeKeepsNoWAL (R1, R2): the node whose turn it was is dead, and the others remove what they hold beyond what they are to keep,
// each as far as its own control file knows it to be backed up. With two dead of three nothing more is known to be committed: nothing goes.
func TestDeadNodeKeepsNoWAL(t *testing.T) {
	const retain = 2 * mib
	n := newNodesWith(t, func(c *Config) { c.Retain, c.Limits.Silent = retain, 2*time.Second }, "a", "b", "c")
	n.die(n.begin())
	for id := range n.keepers {
		n.receive(id, start+5*mib+5000)
	}
	for id := range n.keepers {
		m := n.member(id)
		n.until("node "+id+" holds no more than it is to keep", func() bool { return m.Log().Stats().LocalBytes <= retain+2*mib })
		if oldest, known := m.Log().Oldest().LSN, m.persistedBackup(); oldest > known || oldest <= start {
			t.Errorf("node %s holds WAL from %s on, and its control file knows that all below %s is backed up", id, oldest, known)
		}
	}

	n.until("one of the two has the turn", func() bool { return n.offloader() != "" })
	n.die(n.offloader())
	for id := range n.keepers {
		m := n.member(id)
		n.until("the last one knows that all is backed up", func() bool { return m.Backup().LSN == start+5*mib })
		n.receive(id, start+8*mib)
		n.until("it says what it waits for", func() bool { return m.Status().Backup.HeldBack != "" })
		if n.stored() != 5 || m.Log().Oldest().LSN > start+5*mib {
			t.Errorf("%d segments are stored, and it holds WAL from %s on", n.stored(), m.Log().Oldest())
		}
	}
}

// die ends a node without a word to the others.
func (n *nodes) die(id string) {
	n.t.Helper()
	must(n.t, n.keepers[id].Shutdown(n.t.Context()))
	delete(n.keepers, id)
}
