package backup_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

// TestSealIsDecidedOnce (F14): many propose at once, all get one; a later proposal gets it, too.
func TestSealIsDecidedOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a := p.node(t, backup.Config{Node: "a"})
		tl := newTimeline(t, a, backup.Zstd)
		_, err := tl.Seal(t.Context(), 1)
		wantNotExist(t, err)
		got := make([]backup.Seal, 8)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x1000000 + pg.LSN(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		later, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x9000000, DataLossAccepted: true})
		must(t, err)
		read, err := tl.Seal(t.Context(), 1)
		must(t, err)
		for _, s := range slices.Concat(got, []backup.Seal{later, read}) {
			if s != got[0] || s.End < 0x1000000 || s.By != "a" || s.DataLossAccepted {
				t.Fatalf("%+v and %+v", got[0], s)
			}
		}
		must(t, tl.Unseal(t.Context(), 1))
		must(t, tl.Unseal(t.Context(), 1))
		again, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x9000000})
		if err != nil || again.End != 0x9000000 {
			t.Errorf("after it was taken back: %+v, %v", again, err)
		}
	})
}

func TestSealsOfSeveralTLIs(t *testing.T) {
	tl := newTimeline(t, memPlace(t).node(t, backup.Config{Node: "a"}), backup.Zstd)
	for tli := pg.TLI(1); tli < 20; tli += 9 {
		_, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: tli, End: pg.LSN(tli) << 24})
		must(t, err)
	}
	all, err := tl.Seals(t.Context())
	if err != nil || len(all) != 3 || all[1].TLI != 10 || all[2].End != 19<<24 {
		t.Errorf("%+v, %v", all, err)
	}
}

const forked = "1\t0/1500000\tno recovery target specified\n"

func claimOf(record string) backup.Claim {
	return backup.Claim{TLI: 2, History: []byte(forked), Record: []byte(record)}
}

// TestTwoPromotionsOfOneNumber (F6): their histories are equal, byte for byte; the second is refused, both are named.
func TestTwoPromotionsOfOneNumber(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a, b := p.node(t, backup.Config{Node: "a"}), p.node(t, backup.Config{Node: "b"})
		ta := newTimeline(t, a, backup.Zstd)
		tb := b.Timeline(strings.Split(ta.Prefix(), "/")[0], "main", ta.Identity())
		must(t, ta.Claim(t.Context(), claimOf("at noon")))
		must(t, tb.Claim(t.Context(), claimOf("at noon")))
		err := tb.Claim(t.Context(), claimOf("at one"))
		var claimed *backup.ClaimedError
		if !errors.As(err, &claimed) || claimed.Theirs.By != "a" || string(claimed.Theirs.Record) != "at noon" {
			t.Errorf("the second promotion: %v", err)
		}
		other := claimOf("at noon")
		other.History = []byte("1\t0/1400000\tno recovery target specified\n")
		if err := tb.Claim(t.Context(), other); !errors.As(err, &claimed) {
			t.Errorf("another history: %v", err)
		}
		raw, err := tb.History(t.Context(), 2)
		if err != nil || string(raw) != forked {
			t.Errorf("the history by its claim: %q, %v", raw, err)
		}
	})
}

func TestDamagedDecisionsAreErrors(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	must(t, s.Put(t.Context(), tl.Prefix()+"seal/00000001", []byte(`{"tli":2,"end":"0/1000000"}`)))
	_, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 1})
	wantDamaged(t, err)
	_, err = tl.Seals(t.Context())
	wantDamaged(t, err)
	must(t, s.Put(t.Context(), tl.Prefix()+"claim/00000002", []byte(`nonsense`)))
	wantDamaged(t, tl.Claim(t.Context(), claimOf("x")))
	_, err = tl.Claims(t.Context())
	wantDamaged(t, err)
	if n := len(tl.Damaged()); n != 2 {
		t.Errorf("%d are in quarantine", n)
	}
	must(t, s.Remove(t.Context(), tl.Prefix()+"claim/00000002"))
	must(t, tl.Claim(t.Context(), claimOf("x")))
	if n := len(tl.Damaged()); n != 1 {
		t.Errorf("after one was put right, %d are in quarantine", n)
	}
	if err := tl.Claim(t.Context(), backup.Claim{TLI: 2, History: []byte("x")}); err == nil {
		t.Error("a claim without a history was taken")
	}
}

// TestServedTailIsRemembered: by whoever marked it, and only while the seal is there.
func TestServedTailIsRemembered(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		tl := newTimeline(t, p.node(t, backup.Config{Node: "a"}), backup.Zstd)
		wantNotExist(t, tl.MarkTailServed(t.Context(), 2))
		_, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 0x1000000})
		must(t, err)
		if served, err := tl.TailServed(t.Context(), 1); served || err != nil {
			t.Errorf("before anything went out: %t, %v", served, err)
		}
		for range 2 {
			must(t, tl.MarkTailServed(t.Context(), 1))
		}
		if served, err := tl.TailServed(t.Context(), 1); !served || err != nil {
			t.Errorf("afterwards: %t, %v", served, err)
		}
		must(t, tl.Unseal(t.Context(), 1))
		wantNotExist(t, tl.MarkTailServed(t.Context(), 1))
	})
}
