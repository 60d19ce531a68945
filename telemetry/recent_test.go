package telemetry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestRecentLogIsBounded(t *testing.T) {
	r := &recent{}
	for i := range 3 * recentRecords {
		_, _ = fmt.Fprintf(r, "record %d\n", i)
	}
	lines := strings.Split(strings.TrimSpace(string(r.text())), "\n")
	if len(lines) != recentRecords || lines[len(lines)-1] != fmt.Sprintf("record %d", 3*recentRecords-1) {
		t.Errorf("%d records, the last %q", len(lines), lines[len(lines)-1])
	}
	for range 5 {
		_, _ = r.Write(bytes.Repeat([]byte("x"), recentBytes/2))
	}
	if n := len(r.text()); n > recentBytes || len(r.records) != 2 {
		t.Errorf("%d bytes, %d records", n, len(r.records))
	}
}

func TestRecentLogIsWhatWasLogged(t *testing.T) {
	tel, log := start(t, Config{})
	tel.Logger().Info("hello")
	if got := string(tel.RecentLog()); got == "" || got != log.String() {
		t.Errorf("recent %q, logged %q", got, log)
	}
}
