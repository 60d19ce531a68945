package demo

import (
	"strings"
	"testing"
)

func TestCountSeesWhatIsLost(t *testing.T) {
	kept, gone, changed, unacked := row{1, 1}, row{1, 2}, row{2, 1}, row{2, 2}
	l := newLedger()
	for _, r := range []row{kept, gone, changed} {
		l.acknowledge(r)
	}
	got := l.count(map[row]string{
		kept:    kept.payload(),
		changed: kept.payload(),
		unacked: unacked.payload(),
	})
	want := tally{acknowledged: 3, intact: 1, damaged: 1, extra: 1}
	if got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got.lost() != 2 {
		t.Errorf("%d lost, want 2: the one that is gone, and the one that changed", got.lost())
	}
}

func TestParseRows(t *testing.T) {
	found, err := parseRows([][]string{{"1", "2", "a"}, {"3", "4", "b"}})
	if err != nil || len(found) != 2 || found[row{3, 4}] != "b" {
		t.Errorf("read %v, %v", found, err)
	}
	for _, bad := range [][]string{{"x", "1", ""}, {"1", "x", ""}} {
		if _, err := parseRows([][]string{bad}); err == nil {
			t.Errorf("read %v", bad)
		}
	}
}

func TestStoryIsNumberedAndShowsCommands(t *testing.T) {
	var out strings.Builder
	say := &narrator{out: &out}
	say.step("Start %s", "Sluice")
	say.command("%s", commandLine("sluice", "timeline", "create", "demo/main", "--source", "host=h user='x'"))
	say.indented("created\n\n")
	say.step("Count")
	say.verdict(tally{acknowledged: 31415, intact: 31414, damaged: 1, extra: 2})
	const want = `
 1. Start Sluice
    $ sluice timeline create demo/main --source 'host=h user='\''x'\'''
      created

 2. Count
    acknowledged      31,415
    found             31,414
    lost                   1
    of the lost, 1 are there with another content
    (and 2 more, committed when the kill cut off their acknowledgement)
`
	if got := out.String(); got != want {
		t.Errorf("told:\n%s\nwant:\n%s", got, want)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) is %s, want %s", n, got, want)
		}
	}
}

func TestConnectedWantsAStreamAndItsStart(t *testing.T) {
	for name, c := range map[string]struct {
		status string
		want   string // in the error; empty: none
	}{
		"receives":    {`{"start_lsn":"0/1000000","source":{"connected":true}}`, ""},
		"no position": {`{"start_lsn":"0/0","source":{"connected":true}}`, "not receive"},
		"refused":     {`{"source":{"state":"refused","error":"another cluster"}}`, "another cluster"},
		"no JSON":     {`oh`, "status"},
	} {
		err := connected([]byte(c.status))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
