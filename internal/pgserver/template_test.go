package pgserver_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// TestClustersFromATemplateDiffer: each is a cluster of its own, in its control file and in its WAL, and has all that initdb makes.
func TestClustersFromATemplateDiffer(t *testing.T) {
	templates := filepath.Join(t.TempDir(), "templates")
	t.Setenv("PG_TEMPLATES", templates)
	seen := map[string]bool{}
	for _, mib := range []int{1, 1, 1, 2} {
		s := start(t, pgserver.Options{SegmentSizeMiB: mib})
		seen[value(t, s, "SELECT system_identifier FROM pg_control_system()")] = true
		exec(t, s, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
		must(t, s.Kill())
		must(t, s.Restart(t.Context())) // recovery reads the WAL, and would refuse that of another cluster
		if got := value(t, s, "SELECT count(*) FROM kept"); got != "1000" {
			t.Errorf("%s rows, want 1000", got)
		}
	}
	if len(seen) != 4 {
		t.Errorf("the identifiers of 4 servers are %v", seen)
	}
	if made, err := os.ReadDir(templates); err != nil || len(made) != 2 {
		t.Errorf("templates are %v (%v), want one for each size of segments", made, err)
	}
}

// TestPasswordIsNeverCopied: it would be the first server's.
func TestPasswordIsNeverCopied(t *testing.T) {
	t.Setenv("PG_TEMPLATES", t.TempDir())
	for _, password := range []string{"", "one", "two"} {
		s := start(t, pgserver.Options{SegmentSizeMiB: 1, Password: password})
		exec(t, s, "SELECT 1")
	}
}
