package keeper

import "sync"

// busy are the members on which something is under way, so that whoever looks for
// what does not end need not look at the idle ones, which may be thousands.
type busy struct {
	mu      sync.Mutex
	members map[*Member]struct{} // guarded by mu
}

// note finds out whether a member is busy, after what makes it so has changed. It looks
// with mu held: of two changes at once, whoever comes second sees both.
func (b *busy) note(m *Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if phase, _ := m.manager.Phase(); !phase.IsWork() && m.Operation().Name == "" {
		delete(b.members, m)
		return
	}
	if b.members == nil {
		b.members = map[*Member]struct{}{}
	}
	b.members[m] = struct{}{}
}

// Busy returns the timelines whose managers are at work, or that show an operation, in
// no order.
func (k *Keeper) Busy() []*Member {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy.mu.Lock()
	defer k.busy.mu.Unlock()
	var all []*Member
	for m := range k.busy.members {
		if t := k.tenants[m.ID().Tenant]; t == nil || t.members[m.ID().Name] != m {
			delete(k.busy.members, m) // it is gone, with what was done to it last
			continue
		}
		all = append(all, m)
	}
	return all
}
