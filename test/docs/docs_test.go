package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var (
	testsOf  = regexp.MustCompile("`((?:cmd|dashboards|internal|test|telemetry)[a-z0-9/]*)`((?:[^`|;]*`Test[A-Za-z0-9]+`)+)")
	named    = regexp.MustCompile("`(Test[A-Za-z0-9]+)(…?)`")
	declared = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// A document that names a test promises that it is there, and where.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	places := testPlaces(t)
	found := 0
	for _, file := range documents(t) {
		text := read(t, file)
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			found++
			if m[2] == "" && len(places[m[1]]) == 0 || m[2] != "" && !anyBegins(places, m[1]) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(file), m[1])
			}
		}
		for _, m := range testsOf.FindAllStringSubmatch(text, -1) {
			for _, name := range named.FindAllStringSubmatch(m[2], -1) {
				if !places[name[1]][m[1]] {
					t.Errorf("%s names %s of %s, where it is not", filepath.Base(file), name[1], m[1])
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d names were found: the pattern does not fit the documents any more", found)
	}
}

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(file), m[1], err)
			}
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return append(files, filepath.Join(root, "README.md"))
}

// testPlaces has the packages of each test.
func testPlaces(t *testing.T) map[string]map[string]bool {
	t.Helper()
	places := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(read(t, path), -1) {
			if places[m[1]] == nil {
				places[m[1]] = map[string]bool{}
			}
			places[m[1]][filepath.ToSlash(dir)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return places
}

func anyBegins(places map[string]map[string]bool, prefix string) bool {
	for name := range places {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
