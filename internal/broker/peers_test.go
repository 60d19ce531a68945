package broker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicewal/sluice/internal/pg"
)

// deaf is node b, which keeps timeline 1 and is never run: messages are handed to it.
func deaf() (*Broker, *fake) {
	f := newFake(active(numbered(1), 0x1000000))
	return New(Config{Node: "b"}, f), f
}

// hand gives b a message of node a.
func hand(t testing.TB, b *Broker, data []byte) []Key {
	return b.take(t.Context(), Subject("b", "a"), data, nil)
}

func wordOfA(t testing.TB, b *Broker) Peer {
	t.Helper()
	list := b.Peers(nil, numbered(1))
	if len(list) != 1 || list[0].Node != "a" {
		t.Fatalf("%+v is known, want a's word", list)
	}
	return list[0]
}

func TestLateAndDoubleMessagesChangeNothing(t *testing.T) {
	b, f := deaf()
	key := numbered(1)
	first, second, third := active(key, 0x2000000), active(key, 0x3000000), active(key, 0x4000000)
	third.Qualified = false // not only positions: the newest word counts
	for _, m := range [][]byte{encode(1, first), encode(3, third), encode(3, third), encode(2, second), encode(1, first)} {
		hand(t, b, m)
	}
	if p := wordOfA(t, b); p.Flush != third.Flush || p.RecordEnd != third.RecordEnd || p.Qualified {
		t.Errorf("%+v, want %+v", p.Status, third)
	}
	if s := b.Stats(); s.Rejected[Double] != 2 || s.Rejected[Late] != 1 {
		t.Errorf("%v, want 2 double and 1 late", s.Rejected)
	}
	if n := f.updated(key); n != 2 {
		t.Errorf("%d updates of the timeline, want 2: the first word and the newest", n)
	}
}

// TestALateMessageIsReadForWhatIsNew: the parts of one round may overtake each other.
func TestALateMessageIsReadForWhatIsNew(t *testing.T) {
	b, f := deaf()
	f.set(active(numbered(2), 0))
	hand(t, b, encode(2, active(numbered(1), 0x3000000)))
	hand(t, b, encode(1, active(numbered(1), 0x2000000), active(numbered(2), 0x2000000)))
	if p := wordOfA(t, b); p.Flush.LSN != 0x3000000 {
		t.Errorf("timeline 1 is at %s", p.Flush)
	}
	if list := b.Peers(nil, numbered(2)); len(list) != 1 || list[0].Flush.LSN != 0x2000000 {
		t.Errorf("timeline 2: %+v", list)
	}
}

// TestPositionsNeverGoBack delivers what a node said in any order, some of it twice, some never.
func TestPositionsNeverGoBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b, _ := deaf()
		n := rapid.IntRange(1, 100).Draw(rt, "messages")
		sent := make([][]byte, n)
		states := make([]Status, n)
		s := active(numbered(1), 0x1000000)
		for i := range sent {
			if rapid.IntRange(0, 9).Draw(rt, "promote") == 0 {
				s.Flush, s.RecordEnd = at(s.Flush.TLI+1, s.Flush.LSN/2), s.Flush.LSN/2
			}
			grow := pg.LSN(rapid.IntRange(0, 1000).Draw(rt, "grow"))
			s.Flush.LSN += grow
			s.RecordEnd += grow / 2
			s.Commit, s.Backup = s.Flush, at(s.Flush.TLI, s.Flush.LSN/3)
			sent[i], states[i] = encode(uint64(i+1), s), s
		}
		var was Peer
		highest := -1
		for range rapid.IntRange(1, 2*n).Draw(rt, "deliveries") {
			i := rapid.IntRange(0, n-1).Draw(rt, "which")
			b.take(t.Context(), Subject("b", "a"), sent[i], nil)
			highest = max(highest, i)
			is := b.Peers(nil, numbered(1))[0]
			for _, p := range [][2]pg.Position{{was.Flush, is.Flush}, {was.Commit, is.Commit}, {was.Backup, is.Backup}} {
				if later(p[0], p[1]) != p[1] {
					rt.Fatalf("from %s to %s", p[0], p[1])
				}
			}
			if is.Flush.TLI == was.Flush.TLI && is.RecordEnd < was.RecordEnd {
				rt.Fatalf("record end from %s to %s", was.RecordEnd, is.RecordEnd)
			}
			if want := states[highest]; is.Flush != want.Flush || is.RecordEnd != want.RecordEnd {
				rt.Fatalf("after message %d: %+v, want %+v", highest, is.Status, want)
			}
			was = is
		}
	})
}

// TestLowerPositionsOfALaterMessageAreNotBelieved: within one process no position goes back, whatever is said.
func TestLowerPositionsOfALaterMessageAreNotBelieved(t *testing.T) {
	b, _ := deaf()
	high := active(numbered(1), 0x4000000)
	high.Flush.TLI, high.Commit, high.Backup = 2, at(2, 0x4000000), at(2, 0x3000000)
	low := active(numbered(1), 0x5000000) // further, but on the parent TLI
	low.RecordEnd, low.Commit, low.Backup = 0x5000000, at(1, 0x5000000), at(2, 0x2000000)
	hand(t, b, encode(1, high))
	hand(t, b, encode(2, low))
	lower := high // the same TLI
	lower.Flush.LSN, lower.RecordEnd = 0x3000000, 0x3000000
	hand(t, b, encode(3, lower))
	if p := wordOfA(t, b); p.Flush != high.Flush || p.RecordEnd != high.RecordEnd || p.Commit != high.Commit || p.Backup != high.Backup {
		t.Errorf("%+v, want %+v", p.Status, high)
	}
}

func TestARestartedPeerIsBelievedAnew(t *testing.T) {
	b, _ := deaf()
	old, replaced := active(numbered(1), 0x4000000), active(numbered(1), 0x1000000) // its disk is new
	hand(t, b, encodeAs(header{version, "a", 100, 50}, old))
	hand(t, b, encodeAs(header{version, "a", 200, 1}, replaced))
	if p := wordOfA(t, b); p.Flush != replaced.Flush {
		t.Errorf("%s, want %s", p.Flush, replaced.Flush)
	}
	// What the old process said last arrives late.
	hand(t, b, encodeAs(header{version, "a", 100, 51}, old))
	if p := wordOfA(t, b); p.Flush != replaced.Flush || b.Stats().Rejected[EarlierProcess] != 1 {
		t.Errorf("%s, %v", p.Flush, b.Stats().Rejected)
	}
	// A third one has greeted, and not said anything yet: what the second said is void.
	hand(t, b, encodeAs(header{version, "a", 300, 0}))
	if list := b.Peers(nil, numbered(1)); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestAClockThatWasSetBackIsNoLastingHarm: the new process seems to be the earlier one.
func TestAClockThatWasSetBackIsNoLastingHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := deaf()
		hand(t, b, encodeAs(header{version, "a", 200, 50}, active(numbered(1), 0x4000000)))
		back := encodeAs(header{version, "a", 100, 1}, active(numbered(1), 0x5000000))
		hand(t, b, back)
		if p := wordOfA(t, b); p.Flush.LSN != 0x4000000 {
			t.Fatalf("%s of an earlier process was believed", p.Flush)
		}
		time.Sleep(b.cfg.SilentAfter + time.Second)
		hand(t, b, back)
		if p := wordOfA(t, b); p.Flush.LSN != 0x5000000 {
			t.Fatalf("%s: the node is not believed any more", p.Flush)
		}
	})
}

func TestOnesOwnEchoSaysNothing(t *testing.T) {
	b, _ := deaf()
	echo := encodeAs(header{version, "b", b.started, 1}, active(numbered(1), 0x2000000))
	b.take(t.Context(), Subject("b", "b"), echo, nil)
	if len(b.Nodes()) != 0 || len(b.Peers(nil, numbered(1))) != 0 || b.Stats().Rejected[OwnName] != 0 {
		t.Errorf("%v, %v", b.Nodes(), b.Stats().Rejected)
	}
	b.take(t.Context(), Subject("b", "b"), encodeAs(header{version, "b", b.started + 1, 1}), nil)
	if b.Stats().Rejected[OwnName] != 1 {
		t.Errorf("another process under this node's name: %v", b.Stats().Rejected)
	}
}

func TestWhatIsNotKeptIsNotStored(t *testing.T) {
	b, f := deaf()
	otherLife, otherCluster := numbered(1), active(numbered(1), 0x2000000)
	otherLife.Incarnation = "another"
	otherCluster.SystemID = 8
	hand(t, b, encode(1, active(otherLife, 0x2000000), active(numbered(2), 0x2000000), otherCluster))
	if keys := b.peers.keys(); len(keys) != 0 || b.Stats().Rejected[OtherCluster] != 1 {
		t.Errorf("%v is stored, %v", keys, b.Stats().Rejected)
	}
	// What was kept and is no more is forgotten at the next sweep of all.
	hand(t, b, encode(2, active(numbered(1), 0x2000000)))
	f.drop(numbered(1))
	b.sweep(t.Context(), b.cfg.RefreshEvery)
	if keys := b.peers.keys(); len(keys) != 0 {
		t.Errorf("%v is still stored", keys)
	}
}

func TestNodesAreBounded(t *testing.T) {
	b, _ := deaf()
	for i := range maxNodes + 1 {
		name := fmt.Sprintf("n%d", i)
		b.take(t.Context(), GreetingSubject(name), encodeAs(header{version, name, 1, 0}), nil)
	}
	if n := len(b.Nodes()); n != maxNodes || b.Stats().Rejected[TooManyNodes] != 1 {
		t.Errorf("%d nodes, %v", n, b.Stats().Rejected)
	}
}

func TestASilentNodeIsSaidAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []PeerChange
		b, f := deaf()
		b.cfg.Events.PeerChanged = func(_ context.Context, c PeerChange) { changes = append(changes, c) }
		began := time.Now()
		hand(t, b, encode(1, active(numbered(1), 0x2000000)))
		was := f.updated(numbered(1))
		time.Sleep(b.cfg.SilentAfter + time.Second)
		b.sweep(t.Context(), 1)
		if p := wordOfA(t, b); !p.Heard.Equal(began) || !p.Alive.Equal(began) || !b.Nodes()[0].Silent {
			t.Errorf("%+v, %+v", p, b.Nodes())
		}
		if f.updated(numbered(1)) != was+1 {
			t.Errorf("%d updates, want one for the silence", f.updated(numbered(1))-was)
		}
		hand(t, b, encode(2))
		if len(changes) != 3 || changes[0].Silent || !changes[1].Silent || changes[2].Silent || f.updated(numbered(1)) != was+2 {
			t.Errorf("%+v, %d updates", changes, f.updated(numbered(1))-was)
		}
		time.Sleep(forgetAfter + time.Second)
		b.sweep(t.Context(), b.cfg.RefreshEvery)
		if len(b.Nodes()) != 0 || len(b.peers.keys()) != 0 {
			t.Errorf("%+v is remembered", b.Nodes())
		}
	})
}

func TestWindow(t *testing.T) {
	var w window
	for i, c := range []struct {
		n    uint64
		want Reason
	}{
		{5, ""}, {5, Double}, {3, Late}, {3, Double}, {6, ""}, {5, Double}, {4, Late}, {100, ""}, {6, Late}, {37, Late},
		{37, Double}, {99, Late}, {1000, ""}, {100, Late}, {999, Late}, {1000, Double},
	} {
		if got := w.see(c.n); got != c.want {
			t.Errorf("step %d: %d is %q, want %q", i, c.n, got, c.want)
		}
	}
}
