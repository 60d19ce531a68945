package config

import (
	"strings"
	"testing"
)

func TestMaskedHasNoSecret(t *testing.T) {
	const text = `
node: {id: a, advertise: "https://u:s3cret@a.example:7070/?token=s3cret"}
peers: [{id: b, url: "https://s3cret@b.example:7070"}]
object_store: {url: "s3://wal?endpoint=http://k:s3cret@127.0.0.1:9000&region=eu-1&access_key_id=s3cret&secret_access_key=s3cret"}
broker: {url: "nats://u:s3cret@n1:4222,nats://s3cret@n2:4222"}
telemetry: {otlp_endpoint: "https://o:s3cret@c.example/v1/traces?key=s3cret#s3cret", pyroscope_url: "https://p:s3cret@p.example"}
timelines:
- {name: acme/main, source: "host=db user=sluice password=s3cret sslpassword=s3cret"}
- {name: acme/two, source: "postgresql://sluice:s3cret@db/?passfile=x"}
`
	cfg, err := Parse("x.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	shown, err := cfg.Masked()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), "s3cret") {
		t.Errorf("a secret is shown:\n%s", shown)
	}
	for _, want := range []string{"b.example:7070", "region=eu-1", "127.0.0.1%3A9000", "n2:4222", "host=db", "shutdown_timeout: 30s"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("%s is not shown:\n%s", want, shown)
		}
	}
	if !strings.Contains(cfg.Timelines[0].Source, "s3cret") || !strings.Contains(cfg.Peers[0].URL, "s3cret") {
		t.Error("the configuration itself was masked")
	}
}

func TestWordsAreNoURLs(t *testing.T) {
	for _, word := range []string{"", "embedded"} {
		if got := MaskURL(word); got != word {
			t.Errorf("%q became %q", word, got)
		}
	}
	if got := MaskURL("s3cret:pass@host"); strings.Contains(got, "s3cret") {
		t.Errorf("shown: %s", got)
	}
}
