// Package config reads a node's configuration file.
//
// It is strict, because a key that is misspelt is a setting that is silently not there: an unknown key, a
// second document, an unset environment variable and a value out of its range are errors, all of them
// reported at once, each with file, line and column and with what to do. Every key has a default; an
// empty file is a complete configuration.
//
// ${NAME} in a value is replaced by the environment variable, after the YAML was parsed, so that no
// value can change the structure of the file; $$ is a plain $.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Config is the whole configuration of a node. The yaml tags are the keys; there are no others.
type Config struct {
	Node            Node          `yaml:"node"`
	Listen          Listen        `yaml:"listen"`
	ObjectStore     ObjectStore   `yaml:"object_store"`
	Retain          Retain        `yaml:"retain"`
	Peers           []Peer        `yaml:"peers"`
	Broker          Broker        `yaml:"broker"`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	Telemetry       Telemetry     `yaml:"telemetry"`
	Timelines       []Timeline    `yaml:"timelines"`

	// at has the place of each key that the file sets.
	at map[string]position
}

// Node says who this node is.
type Node struct {
	// ID is also the application_name, and "sluice_"+ID the slot on each source.
	ID        string `yaml:"id"`
	Advertise string `yaml:"advertise"` // URL at which peers reach listen.http; needed with peers
	DataDir   string `yaml:"data_dir"`
}

// Listen has the addresses that the node serves, as host:port.
type Listen struct {
	HTTP     string `yaml:"http"`
	Postgres string `yaml:"postgres"`
}

// ObjectStore says where segments are backed up.
type ObjectStore struct {
	URL             string        `yaml:"url"` // empty: nowhere
	Compression     string        `yaml:"compression"`
	PartialInterval time.Duration `yaml:"partial_interval"` // the open segment's greatest age in the store
	Concurrency     int           `yaml:"concurrency"`      // uploads at once
}

// Retain says what stays on the local disk, for each timeline.
type Retain struct {
	LocalBytes Bytes `yaml:"local_bytes"` // kept though backed up
	// Unbacked is what happens to WAL above LocalBytes that is not in object storage: KeepUnbacked or
	// DropUnbacked.
	Unbacked string `yaml:"unbacked"`
}

// The values of Retain.Unbacked.
const (
	KeepUnbacked = "keep"
	DropUnbacked = "drop"
)

// Peer is another node that keeps timelines of this one's.
type Peer struct {
	ID  string `yaml:"id"`
	URL string `yaml:"url"`
}

// Broker says how status is exchanged.
type Broker struct {
	URL             string   `yaml:"url"` // "embedded", or nats://host:port,...
	ClusterListen   string   `yaml:"cluster_listen"`
	Routes          []string `yaml:"routes"`
	CredentialsFile string   `yaml:"credentials_file"`
	TLS             TLS      `yaml:"tls"`
}

// TLS names PEM files.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Telemetry says what is told, and to whom.
type Telemetry struct {
	OTLPEndpoint         string  `yaml:"otlp_endpoint"` // http(s):// or grpc://; empty: the environment decides
	TraceSampleRatio     float64 `yaml:"trace_sample_ratio"`
	PyroscopeURL         string  `yaml:"pyroscope_url"`
	SpanProfiles         bool    `yaml:"span_profiles"`   // profiles say for which span the time was spent
	FlightRecorder       bool    `yaml:"flight_recorder"` // the last seconds of the scheduler, for diagnostics
	Pprof                bool    `yaml:"pprof"`           // serves /debug/pprof/
	TimelineMetricsLimit int     `yaml:"timeline_metrics_limit"`
	LogLevel             string  `yaml:"log_level"`
	LogFormat            string  `yaml:"log_format"`
}

// Timeline is created when it is missing, and never deleted.
type Timeline struct {
	Name   string `yaml:"name"` // TENANT/TIMELINE
	Source string `yaml:"source"`
}

// Default returns what an empty file means.
func Default() *Config {
	return &Config{
		Node:   Node{ID: "a", DataDir: "./sluice-data"},
		Listen: Listen{HTTP: "127.0.0.1:7070", Postgres: "127.0.0.1:5454"},
		ObjectStore: ObjectStore{
			URL: "file://./sluice-objects", Compression: "zstd", PartialInterval: time.Minute, Concurrency: 4,
		},
		Retain:          Retain{LocalBytes: 1 << 30, Unbacked: KeepUnbacked},
		Broker:          Broker{URL: "embedded"},
		ShutdownTimeout: 30 * time.Second,
		Telemetry: Telemetry{
			TraceSampleRatio: 1, TimelineMetricsLimit: 1000, LogLevel: "info", LogFormat: "json",
		},
	}
}

// Load reads a file. An error about its content is an *Error.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe):
		return nil, fmt.Errorf("read the configuration %s: %w", path, pe.Err)
	case err != nil:
		return nil, fmt.Errorf("read the configuration %s: %w", path, err)
	}
	return Parse(path, b, os.LookupEnv)
}

// Parse reads a configuration; name stands for the file in errors, which are *Error. env looks up an
// environment variable.
func Parse(name string, text []byte, env func(string) (string, bool)) (*Config, error) {
	cfg := Default()
	d := decoder{file: name, env: env, at: map[string]position{}, written: map[string]string{}}
	body, err := d.document(text)
	if err != nil {
		return nil, err
	}
	d.decode(body, cfg)
	cfg.at = d.at
	if len(d.problems) == 0 {
		cfg.validate(&d)
	}
	if len(d.problems) > 0 {
		return nil, d.failure()
	}
	return cfg, nil
}

// IsSet reports whether the file says something for a key, such as "node.id".
func (c *Config) IsSet(key string) bool {
	_, ok := c.at[key]
	return ok
}

// document parses the text and returns the body of its only document, nil if it has none.
func (d *decoder) document(text []byte) (ast.Node, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, &Error{Problems: []Problem{d.syntaxProblem(err)}}
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil, doc.Body.Type() == ast.DirectiveType:
		case body == nil:
			body = doc.Body
		default:
			return nil, &Error{Problems: []Problem{
				d.problem(positionOf(doc.Body), "a second YAML document begins here; one file is one configuration, put both into one document"),
			}}
		}
	}
	return body, nil
}

// syntaxProblem takes the place and the message of the library's error, not its excerpt of the file:
// that may show a password.
func (d *decoder) syntaxProblem(err error) Problem {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return d.problem(position{}, "it is not valid YAML")
	}
	var pos position
	if t := ye.GetToken(); t != nil && t.Position != nil {
		pos = position{t.Position.Line, t.Position.Column}
	}
	return d.problem(pos, "it is not valid YAML: %s", ye.GetMessage())
}
