package keeper

import (
	"testing"

	"github.com/sluicewal/sluice/internal/timeline"
)

// A node counts for the quorum only as long as all of that is so.
func TestNodesVouchWhileTheyStreamAndAreHeard(t *testing.T) {
	good := timeline.PeerStatus{Node: "b", TLI: 2, Qualified: true, SourceConnected: true}
	for name, c := range map[string]struct {
		change func(*timeline.PeerStatus)
		want   int
	}{
		"as it should be":  {func(*timeline.PeerStatus) {}, 1},
		"on another TLI":   {func(p *timeline.PeerStatus) { p.TLI = 1 }, 0},
		"joining":          {func(p *timeline.PeerStatus) { p.Qualified = false }, 0},
		"without a source": {func(p *timeline.PeerStatus) { p.SourceConnected = false }, 0},
		"not heard of":     {func(p *timeline.PeerStatus) { p.Silent = true }, 0},
		"not waited for":   {func(p *timeline.PeerStatus) { p.Node = "x" }, 0},
	} {
		peer := good
		c.change(&peer)
		if got := vouching([]timeline.PeerStatus{peer}, 2, func(node string) bool { return node == "b" }); got != c.want {
			t.Errorf("%s: %d nodes vouch, want %d", name, got, c.want)
		}
	}
}
