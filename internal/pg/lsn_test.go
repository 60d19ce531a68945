package pg_test

import (
	"encoding/json"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// lsnTexts and lsnsRefused are what a server reads, and what it calls invalid input; TestServerReadsTheSameWords asks one.
var (
	lsnTexts = map[string]pg.LSN{
		"0/0":               0,
		"0/16B3748":         0x16B3748,
		"16/B374D848":       0x16_B374D848,
		"a/0000000b":        0xA_0000000B,
		"FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	}
	lsnsRefused = []string{
		"", "/", "0", "0/", "/0", "G/0", "0/0/0", " 0/0", "0/0 ", "+1/0", "-1/0", "0x1/0", "1_0/0", "000000000/0", "0/123456789",
	}
)

func TestLSNText(t *testing.T) {
	for text, want := range lsnTexts {
		if got, err := pg.ParseLSN(text); err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range lsnsRefused {
		if got, err := pg.ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %s, want an error", text, got)
		}
	}
	for lsn, want := range map[pg.LSN]string{0: "0/0", 0x16B3748: "0/16B3748", 0xA_0000000B: "A/B"} {
		if lsn.String() != want {
			t.Errorf("%d prints as %q, want %q", uint64(lsn), lsn, want)
		}
	}
}

func TestPositionAsJSON(t *testing.T) {
	p := pg.Position{TLI: 2, LSN: 0x16B3748}
	b, err := json.Marshal(p)
	if want := `{"tli":2,"lsn":"0/16B3748"}`; err != nil || string(b) != want {
		t.Fatalf("Marshal: %s, %v; want %s", b, err, want)
	}
	var back pg.Position
	if err := json.Unmarshal(b, &back); err != nil || back != p {
		t.Errorf("Unmarshal: %v, %v; want %v", back, err, p)
	}
	if err := json.Unmarshal([]byte(`{"lsn":"nowhere"}`), &back); err == nil {
		t.Error("Unmarshal took an LSN that is none")
	}
	if p.IsZero() || !(pg.Position{}).IsZero() {
		t.Error("IsZero is wrong about", p)
	}
	if want := "TLI 2 at 0/16B3748"; p.String() != want {
		t.Errorf("String: %q, want %q", p, want)
	}
}

func FuzzLSN(f *testing.F) {
	for _, seed := range []string{"0/0", "16/B374D848", "ffffffff/ffffffff", "0/", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := pg.ParseLSN(text)
		if err != nil {
			return
		}
		if back, err := pg.ParseLSN(lsn.String()); err != nil || back != lsn {
			t.Errorf("%q is %s, which reads as %s, %v", text, lsn, back, err)
		}
	})
}
