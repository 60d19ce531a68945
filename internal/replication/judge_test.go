package replication

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

const mib = 1 << 20

// held is a node on TLI 2 that holds 16 MiB segments up to 0/3500100, half a record above its record end; TLI 2 began at
// 0/2800000.
func held(change func(*Held)) Held {
	h := Held{
		SystemID: 7, SegmentSize: 16 * mib,
		Position: pg.Position{TLI: 2, LSN: 0x3500100}, RecordEnd: 0x3500000, CompareFrom: 0x3000000,
		History: pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: 0x2800000}}},
	}
	if change != nil {
		change(&h)
	}
	return h
}

// source is the one that held came from.
func source(change func(*Source)) Source {
	s := Source{
		SystemID: 7, SegmentSize: 16 * mib, TLI: 2, Flush: 0x3500100,
		History: pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: 0x2800000}}},
	}
	if change != nil {
		change(&s)
	}
	return s
}

// child is a source on TLI 3 that left TLI 2 at fork.
func child(fork pg.LSN) func(*Source) {
	return func(s *Source) {
		s.TLI, s.Flush = 3, fork+0x100
		s.History = pg.History{TLI: 3, Forks: []pg.Fork{{TLI: 1, LSN: 0x2800000}, {TLI: 2, LSN: fork}}}
	}
}

// sealedAt seals TLI 2.
func sealedAt(end pg.LSN) func(*Held) {
	return func(h *Held) { h.Seal = &Seal{TLI: 2, End: end} }
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name   string
		held   func(*Held)
		source func(*Source)
		want   Start
		reason Reason
		text   []string // what a refusal names
	}{
		{
			name: "nothing held: any source, and its slot decides where",
			held: func(h *Held) { *h = Held{} },
			want: Start{TLI: 2, Adopt: true},
		}, {
			name:   "nothing held, source in recovery",
			held:   func(h *Held) { *h = Held{} },
			source: func(s *Source) { s.InRecovery = true },
			reason: InRecovery,
		}, {
			name: "same source: from the start of the segment that holds the end",
			want: Start{TLI: 2, LSN: 0x3000000, Open: 0x3000000},
		}, {
			name: "end on a segment border: from the segment below, if the source still has it",
			held: func(h *Held) { h.Position.LSN, h.RecordEnd, h.CompareFrom = 0x3000000, 0x3000000, 0x2000000 },
			want: Start{TLI: 2, LSN: 0x2000000, Open: 0x3000000},
		}, {
			name:   "source ahead",
			source: func(s *Source) { s.Flush = 0x9000000 },
			want:   Start{TLI: 2, LSN: 0x3000000, Open: 0x3000000},
		}, {
			name:   "another system identifier",
			source: func(s *Source) { s.SystemID = 8 },
			reason: ForeignCluster, text: []string{"7", "8"},
		}, {
			name:   "another segment size",
			source: func(s *Source) { s.SegmentSize = 64 * mib },
			reason: ForeignCluster, text: []string{"16MB", "64MB"},
		}, {
			name:   "behind on the same TLI",
			source: func(s *Source) { s.Flush = 0x3400000 },
			reason: Behind, text: []string{"0/3400000", "0/3500100"},
		}, {
			name:   "behind by less than a record: what was sent was flushed, and cannot be gone",
			source: func(s *Source) { s.Flush = 0x3500080 },
			reason: Behind,
		}, {
			name:   "in recovery",
			source: func(s *Source) { s.InRecovery = true },
			reason: InRecovery,
		}, {
			name:   "in recovery, and another cluster: that is what matters",
			source: func(s *Source) { s.InRecovery, s.SystemID = true, 8 },
			reason: ForeignCluster,
		}, {
			name:   "old primary after a failover",
			source: func(s *Source) { s.TLI, s.History, s.Flush = 1, pg.History{TLI: 1}, 0x9000000 },
			reason: Forked, text: []string{"TLI 1", "TLI 2"},
		}, {
			name: "promoted past us elsewhere: a TLI that does not come from ours",
			source: func(s *Source) {
				s.TLI, s.History = 3, pg.History{TLI: 3, Forks: []pg.Fork{{TLI: 1, LSN: 0x2900000}}}
			},
			reason: Forked, text: []string{"TLI 3", "TLI 2"},
		}, {
			name: "two promotions chose TLI 2",
			source: func(s *Source) {
				s.History.Forks = []pg.Fork{{TLI: 1, LSN: 0x2700000}}
			},
			reason: Forked, text: []string{"0/2700000", "0/2800000"},
		}, {
			name: "two promotions chose TLI 2, and one of them was promoted again",
			source: func(s *Source) {
				child(0x3600000)(s)
				s.History.Forks[0].LSN = 0x2700000
			},
			reason: Forked, text: []string{"0/2700000", "0/2800000"},
		}, {
			name: "restored to a point before the last failover: the fork of that is in its history, above its own",
			source: func(s *Source) {
				child(0x2700000)(s)
			},
			reason: Forked, text: []string{"0/2700000", "0/2800000", "timeline of its own"},
		}, {
			name:   "forked below everything that is held",
			held:   func(h *Held) { h.Oldest = 0x3000000 },
			source: child(0x2f00000),
			reason: Behind, text: []string{"0/2F00000", "0/3000000", "timeline of its own"},
		}, {
			name: "own history not known: the bytes must tell",
			held: func(h *Held) { h.History = pg.History{} },
			source: func(s *Source) {
				s.History.Forks = []pg.Fork{{TLI: 1, LSN: 0x2700000}}
			},
			want: Start{TLI: 2, LSN: 0x3000000, Open: 0x3000000},
		}, {
			name:   "fork above the raw end: first the rest of our TLI",
			held:   func(h *Held) { h.CompareFrom = 0x2000000 },
			source: child(0x4800000),
			want:   Start{TLI: 2, LSN: 0x2000000, Open: 0x3000000},
		}, {
			name:   "fork at the raw end",
			source: child(0x3500100),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name:   "fork between record end and raw end: half a record is dropped",
			source: child(0x3500080),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name:   "fork at the record end",
			source: child(0x3500000),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name:   "fork below the record end: followed, the tail has diverged",
			source: child(0x3400000),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name:   "fork in an earlier segment",
			source: child(0x2900000),
			want:   Start{TLI: 3, LSN: 0x2000000, Follow: true},
		}, {
			name:   "fork on a segment border, where we stand",
			held:   func(h *Held) { h.Position.LSN, h.RecordEnd = 0x4000000, 0x4000000 },
			source: child(0x4000000),
			want:   Start{TLI: 3, LSN: 0x4000000, Follow: true},
		}, {
			name: "several TLIs ahead: the next one first",
			source: func(s *Source) {
				child(0x3500000)(s)
				s.TLI, s.History.TLI = 5, 5
				s.History.Forks = append(s.History.Forks, pg.Fork{TLI: 3, LSN: 0x3600000}, pg.Fork{TLI: 4, LSN: 0x3700000})
			},
			want: Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name: "a TLI that was left where it began is passed over",
			source: func(s *Source) {
				child(0x3500000)(s)
				s.TLI, s.History.TLI = 4, 4
				s.History.Forks = append(s.History.Forks, pg.Fork{TLI: 3, LSN: 0x3500000})
			},
			want: Start{TLI: 4, LSN: 0x3000000, Follow: true},
		}, {
			name: "a restore to a point before TLI 3 began, along TLI 3",
			source: func(s *Source) {
				child(0x3500000)(s)
				s.TLI, s.History.TLI = 4, 4
				s.History.Forks = append(s.History.Forks, pg.Fork{TLI: 3, LSN: 0x3100000})
			},
			want: Start{TLI: 4, LSN: 0x3000000, Follow: true},
		}, {
			name:   "sealed, and the same source is still there",
			held:   sealedAt(0x3500000),
			reason: Sealed, text: []string{"TLI 2", "0/3500000"},
		}, {
			name:   "sealed, an old primary from before",
			held:   sealedAt(0x3500000),
			source: func(s *Source) { s.TLI, s.History = 1, pg.History{TLI: 1} },
			reason: Forked,
		}, {
			name:   "sealed, restored up to the end",
			held:   sealedAt(0x3500000),
			source: child(0x3500000),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name:   "sealed, a standby that had more was promoted",
			held:   sealedAt(0x3500000),
			source: child(0x3600000),
			want:   Start{TLI: 2, LSN: 0x3000000, Open: 0x3000000},
		}, {
			name:   "sealed, fork below the end",
			held:   sealedAt(0x3500000),
			source: child(0x34FFFF8),
			reason: Behind, text: []string{"0/34FFFF8", "0/3500000", "--accept-data-loss"},
		}, {
			name: "sealed, fork below the end, accepted",
			held: func(h *Held) {
				sealedAt(0x3500000)(h)
				h.AcceptDataLoss = true
			},
			source: child(0x34FFFF8),
			want:   Start{TLI: 3, LSN: 0x3000000, Follow: true},
		}, {
			name: "sealed: accepted loss does not take the seal back",
			held: func(h *Held) {
				sealedAt(0x3500000)(h)
				h.AcceptDataLoss = true
			},
			reason: Sealed,
		}, {
			name: "a seal of the TLI before binds no more",
			held: func(h *Held) { h.Seal = &Seal{TLI: 1, End: 0x2900000} },
			want: Start{TLI: 2, LSN: 0x3000000, Open: 0x3000000},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := judge(held(test.held), source(test.source))
			wantJudgement(t, got, err, test.want, test.reason, test.text)
		})
	}
}

// wantJudgement wants a start, or a refusal that names so much.
func wantJudgement(t *testing.T, got Start, err error, want Start, reason Reason, text []string) {
	t.Helper()
	if reason == "" {
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		return
	}
	refused := new(RefusedError)
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Fatalf("got %+v, %v; want a refusal: %s", got, err, reason)
	}
	for _, part := range text {
		if !strings.Contains(refused.Text, part) {
			t.Errorf("the refusal does not name %s: %s", part, refused.Text)
		}
	}
}

func TestFirstPosition(t *testing.T) {
	for _, test := range []struct {
		name   string
		source func(*Source)
		want   pg.Position
	}{
		{"at the slot's segment", func(s *Source) { s.Slot.RestartLSN = 0x3200028 }, pg.Position{TLI: 2, LSN: 0x3000000}},
		{"slot not known", nil, pg.Position{TLI: 2, LSN: 0x3000000}},
		{"slot below the TLI's beginning", func(s *Source) { s.Slot.RestartLSN = 0x1000028 }, pg.Position{TLI: 2, LSN: 0x2000000}},
	} {
		if got := firstPosition(source(test.source)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// stored is a node with an empty disk: object storage has the segments of TLI 1 and TLI 2 up to 0/4000000, and says that TLI 2
// is the newest that was followed.
func stored(change func(*Held)) Held {
	line := pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: 0x2800000}}}
	h := Held{
		SystemID: 7, SegmentSize: 16 * mib, Position: pg.Position{TLI: 2}, History: line, Newest: line,
		Stored: pg.Position{TLI: 2, LSN: 0x4000000},
	}
	if change != nil {
		change(&h)
	}
	return h
}

func TestJudgeWithAnEmptyDisk(t *testing.T) {
	ahead := func(s *Source) { s.Flush = 0x9000000 }
	for _, test := range []struct {
		name   string
		held   func(*Held)
		source func(*Source)
		want   Start
		reason Reason
		text   []string
	}{
		{
			name: "same TLI: from where object storage ends", source: ahead,
			want: Start{TLI: 2, LSN: 0x4000000, Adopt: true},
		}, {
			name: "nothing is in object storage yet but the identity: the slot decides", source: ahead,
			held: func(h *Held) {
				h.Position, h.Newest, h.History, h.Stored = pg.Position{}, pg.History{}, pg.History{}, pg.Position{}
			},
			want: Start{TLI: 2, Adopt: true},
		}, {
			name: "the loss of what is between object storage and the slot was accepted", source: ahead,
			held: func(h *Held) { h.AcceptDataLoss = true },
			want: Start{TLI: 2, Adopt: true},
		}, {
			name:   "a child that left above: first the rest of the parent",
			source: child(0x6800000),
			want:   Start{TLI: 2, LSN: 0x4000000, Adopt: true},
		}, {
			name:   "a child that left in the segment that comes next: it has a copy of what is below",
			source: child(0x4800000),
			want:   Start{TLI: 3, LSN: 0x4000000, Adopt: true},
		}, {
			name:   "a child that left below what is in object storage: from the segment in which it did",
			source: child(0x3800000),
			want:   Start{TLI: 3, LSN: 0x3000000, Adopt: true},
		}, {
			name:   "behind object storage",
			reason: Behind, text: []string{"0/3500100", "0/4000000"},
		}, {
			name: "sealed, and the old primary is back", held: sealedAt(0x4100000), source: ahead,
			reason: Sealed, text: []string{"0/4100000", "unseal"},
		}, {
			name: "promised, and not decided", held: sealedAt(0), source: ahead,
			reason: Sealed, text: []string{"not decided yet"},
		}, {
			name: "sealed, and left below the end", held: sealedAt(0x4900000), source: child(0x4800000),
			reason: Behind, text: []string{"0/4800000", "0/4900000"},
		}, {
			name: "sealed, and left at the end", held: sealedAt(0x4800000), source: child(0x4800000),
			want: Start{TLI: 3, LSN: 0x4000000, Adopt: true},
		}, {
			name:   "an old primary that came back: TLI 2 was followed",
			source: func(s *Source) { s.TLI, s.History, s.Flush = 1, pg.History{TLI: 1}, 0x9000000 },
			reason: Forked, text: []string{"TLI 1", "TLI 2"},
		}, {
			name:   "another promotion with the number 2",
			source: func(s *Source) { s.History.Forks = []pg.Fork{{TLI: 1, LSN: 0x2900000}} },
			reason: Forked, text: []string{"0/2800000", "0/2900000"},
		}, {
			name: "another cluster", source: func(s *Source) { s.SystemID = 8 },
			reason: ForeignCluster,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := judge(stored(test.held), source(test.source))
			wantJudgement(t, got, err, test.want, test.reason, test.text)
		})
	}
}

// TestJudgeByWhatOthersFollowed: another node has claimed TLI 3, and this one still is on TLI 2.
func TestJudgeByWhatOthersFollowed(t *testing.T) {
	followed := func(h *Held) {
		h.Newest = pg.History{TLI: 3, Forks: []pg.Fork{{TLI: 1, LSN: 0x2800000}, {TLI: 2, LSN: 0x3500000}}}
	}
	got, err := judge(held(followed), source(nil))
	wantJudgement(t, got, err, Start{}, Forked, []string{"TLI 2", "TLI 3"})
	got, err = judge(held(followed), source(child(0x3500000)))
	wantJudgement(t, got, err, Start{TLI: 3, LSN: 0x3000000, Follow: true}, "", nil)
}
