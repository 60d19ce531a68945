package api_test

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/api"
)

// TestEveryKindIsAnsweredAndDocumented reads the kinds from the source, so that none is forgotten.
func TestEveryKindIsAnsweredAndDocumented(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 10 {
		t.Fatalf("found %d kinds", len(kinds))
	}
	for _, k := range kinds {
		kind := api.Kind(k[1])
		url, _ := serve(t, &fakeNode{err: api.Errorf(kind, "because")}, api.Config{})
		got := ask(t, http.MethodGet, url+main, "")
		if got.kind != kind || got.status < 400 {
			t.Errorf("%s is answered %d %q", kind, got.status, got.kind)
		}
		row := regexp.MustCompile("`" + kind.URI() + "` \\| ([0-9, ]+) \\|").FindStringSubmatch(string(doc))
		if row == nil || !strings.Contains(row[1], strconv.Itoa(got.status)) {
			t.Errorf("%s, status %d, is not in docs/http.md: %v", kind, got.status, row)
		}
	}
}
