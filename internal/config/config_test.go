package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/timeline"
)

// testEnv is the environment of all tests.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"PGPASSWORD": "s3cret: {evil: [", "ID": "node_7", "RATIO": "0.25", "EMPTY": "", "NESTED": "${ID}", "TIME": "90s",
	}[name]
	return v, ok
}

func parse(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := Parse("sluice.yaml", []byte(text), testEnv)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return cfg
}

// TestScripts reads a file and prints what is wrong with it, or which keys are without effect.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			cfg, err := Parse("sluice.yaml", []byte(d.Input), testEnv)
			if err != nil {
				if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the error shows a secret: %v", err)
				}
				return err.Error()
			}
			return "ok\n" + strings.Join(WithoutEffect(cfg), "\n")
		})
	})
}

// TestContractIsTheDefault holds the contract's example, key by key, against the defaults: each key is
// known, each default is as written there, and there is no other key.
func TestContractIsTheDefault(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, string(text))
	for _, key := range leaves(reflect.TypeFor[Config](), "") {
		if !got.IsSet(key) {
			t.Errorf("the contract's example does not have %s", key)
		}
	}
	want := Default()
	want.Peers, want.Broker.Routes = []Peer{}, []string{}
	want.Timelines = []Timeline{{"acme/main", "host=127.0.0.1 port=5432 user=sluice"}}
	got.at = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the contract's example gives\n%+v, the defaults are\n%+v", got, want)
	}
}

func leaves(t reflect.Type, path string) []string {
	var keys []string
	for f := range t.Fields() {
		key := f.Tag.Get("yaml")
		switch {
		case key == "":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, leaves(f.Type, join(path, key))...)
		default:
			keys = append(keys, join(path, key))
		}
	}
	return keys
}

func TestFileWithoutContentIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "node:\nlisten: null\n", "%YAML 1.2\n---\n"} {
		got := parse(t, text)
		got.at = nil
		if !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q gives %+v", text, got)
		}
	}
}

func TestOtherKeysKeepTheirDefaults(t *testing.T) {
	cfg := parse(t, "node: {id: '007'}\nretain:\n  local_bytes: 64MiB\nshutdown_timeout: 5s\n")
	want := Default()
	want.Node.ID, want.Retain.LocalBytes, want.ShutdownTimeout = "007", 64<<20, 5*time.Second
	if cfg.at = nil; !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v", cfg)
	}
}

func TestNumbersAreTakenAsTheyAreWritten(t *testing.T) {
	if got := parse(t, "node: {id: 007}").Node.ID; got != "007" {
		t.Errorf("node.id: 007 is read as %q", got)
	}
}

func TestEnvironmentCannotChangeTheStructure(t *testing.T) {
	cfg := parse(t, `
node: {id: "${ID}"}
shutdown_timeout: ${TIME}
telemetry: {trace_sample_ratio: "${RATIO}"}
timelines:
  - name: acme/main
    source: host=h password='${PGPASSWORD}' user=$$${ID} dbname=$x
`)
	if cfg.Node.ID != "node_7" || cfg.ShutdownTimeout != 90*time.Second || cfg.Telemetry.TraceSampleRatio != 0.25 {
		t.Errorf("got %+v", cfg)
	}
	if got, want := cfg.Timelines[0].Source, "host=h password='s3cret: {evil: [' user=$node_7 dbname=$x"; got != want {
		t.Errorf("source = %q, want %q", got, want)
	}
}

func TestExpandedTextIsNotExpandedAgain(t *testing.T) {
	got, err := expand("${NESTED}", testEnv)
	if err != nil || got != "${ID}" {
		t.Errorf("expand = %q, %v", got, err)
	}
}

func TestIsSetTellsDefaultsApart(t *testing.T) {
	cfg := parse(t, "node: {id: a}\nlisten:\n")
	if !cfg.IsSet("node.id") || cfg.IsSet("node.data_dir") || cfg.IsSet("listen") {
		t.Errorf("set: %v", cfg.at)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read")
	}
}

// TestNamesAreThoseOfTimelines holds the rule against that of the package that owns it.
func TestNamesAreThoseOfTimelines(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, name := range []string{
		"acme/main", "a/b", "0/9", "a-b/c-d", long + "/" + long, "", "/", "a", "a/", "/b", "A/b", "a/b/c", "-a/b", "a-/b", "a/b-", "a_b/c", "../x",
		"a/..", long + "x/b", "a/" + long + "x", "a/b ", " a/b", "a/b\n",
	} {
		if _, err := timeline.ParseID(name); (err == nil) != nameRule.MatchString(name) {
			t.Errorf("%q: timeline.ParseID says %v", name, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "17": 17, "1GiB": 1 << 30, "1.5 KiB": 1536, "3MB": 3e6, "2 B": 2,
	} {
		got, err := ParseBytes(text)
		if got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
		again, err := ParseBytes(got.String())
		if again != want || err != nil {
			t.Errorf("%d is written %q and read %d, %v", want, got, again, err)
		}
	}
	for _, text := range []string{"", "B", "-1", "1 XiB", "9e99GB", "nan", "inf", "1GiB GiB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	known := keysOf(reflect.TypeFor[Config]())
	for word, want := range map[string]string{"lisen": "listen", "object-store": "object_store", "shutdowntimeout": "shutdown_timeout", "xyzzy": "", "": ""} {
		if got, _ := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if !slices.IsSortedFunc([]int{distance("", ""), distance("a", "b"), distance("ab", ""), distance("kitten", "sitting")}, func(a, b int) int { return a - b }) {
		t.Error("distances are out of order")
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("a: &x [*x, ${ID}]\n--- |\n b"))
	f.Add([]byte("timelines: [{name: acme/main, source: host=${PGPASSWORD}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse("f", text, testEnv)
		var ce *Error
		switch {
		case err == nil && (cfg.Node.ID == "" || cfg.ShutdownTimeout <= 0 || cfg.Listen.HTTP == ""):
			t.Errorf("accepted, with %+v", cfg)
		case err != nil && (!errors.As(err, &ce) || len(ce.Problems) == 0):
			t.Errorf("an error of another kind: %v", err)
		case err != nil && strings.Contains(err.Error(), "s3cret") && !strings.Contains(string(text), "s3cret"):
			t.Errorf("the error shows a secret: %v", err)
		}
	})
}
