package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicewal/sluice/internal/conninfo"
)

var (
	nodeIDRule = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)
	nameRule   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// A checker notes what is wrong with the value of a key.
type checker struct{ d *decoder }

func (c checker) fail(key, format string, args ...any) {
	c.d.fail(c.d.at[key], key+" "+format, args...)
}

// written returns a key's value as it stands in the file: what a variable holds may be a secret.
func (c checker) written(key string) string { return c.d.written[key] }

func (c *Config) validate(d *decoder) {
	v := checker{d}
	c.Node.validate(v, len(c.Peers) > 0)
	v.address("listen.http", c.Listen.HTTP)
	v.address("listen.postgres", c.Listen.Postgres)
	c.ObjectStore.validate(v)
	v.oneOf("retain.unbacked", c.Retain.Unbacked, KeepUnbacked, DropUnbacked)
	c.validatePeers(v)
	c.Broker.validate(v)
	if len(c.Peers) > 0 && c.Broker.URL == "embedded" && c.Broker.ClusterListen == "" {
		v.fail("peers", "need a broker that reaches them: broker.cluster_listen with broker.routes, or broker.url")
	}
	if c.ShutdownTimeout <= 0 {
		v.fail("shutdown_timeout", "has to be above 0")
	}
	c.Telemetry.validate(v)
	c.validateTimelines(v)
}

func (n Node) validate(v checker, withPeers bool) {
	if !nodeIDRule.MatchString(n.ID) {
		v.fail("node.id", "has to be 1 to 40 lower-case letters, digits and underscores, not %q; it is the application_name on the sources", v.written("node.id"))
	}
	if n.DataDir == "" {
		v.fail("node.data_dir", "has to name a directory")
	}
	if n.Advertise != "" {
		v.url("node.advertise", n.Advertise, "http", "https")
	} else if withPeers {
		v.fail("peers", "needs node.advertise: the URL at which those peers reach this node")
	}
}

func (o ObjectStore) validate(v checker) {
	if o.URL != "" {
		v.url("object_store.url", o.URL, "file", "s3", "gs", "azblob", "mem")
	}
	v.oneOf("object_store.compression", o.Compression, "zstd", "lz4", "none")
	if o.PartialInterval <= 0 {
		v.fail("object_store.partial_interval", "has to be above 0")
	}
	if o.Concurrency < 1 {
		v.fail("object_store.concurrency", "has to be at least 1")
	}
}

func (c *Config) validatePeers(v checker) {
	seen := map[string]bool{c.Node.ID: true}
	for i, p := range c.Peers {
		key := "peers[" + strconv.Itoa(i) + "]"
		switch {
		case !nodeIDRule.MatchString(p.ID):
			v.fail(key, "needs an id, as the peer's own node.id: 1 to 40 lower-case letters, digits and underscores")
		case p.ID == c.Node.ID:
			v.fail(key, "is this node itself, node.id is the same; list the others only")
		case seen[p.ID]:
			v.fail(key, "has the id %q a second time", v.written(key+".id"))
		}
		seen[p.ID] = true
		v.url(key, p.URL, "http", "https")
	}
}

func (b Broker) validate(v checker) {
	if b.URL != "embedded" {
		for server := range strings.SplitSeq(b.URL, ",") {
			v.url("broker.url", strings.TrimSpace(server), "nats", "tls")
		}
	}
	if b.ClusterListen != "" {
		v.address("broker.cluster_listen", b.ClusterListen)
	}
	for i, route := range b.Routes {
		v.url("broker.routes["+strconv.Itoa(i)+"]", route, "nats", "tls")
	}
	if (b.TLS.Cert == "") != (b.TLS.Key == "") {
		v.fail("broker.tls", "needs cert and key together")
	}
	b.validateKind(v)
}

// validateKind refuses keys that only the other kind of broker heeds: whoever sets them expects something.
func (b Broker) validateKind(v checker) {
	external := b.URL != "embedded"
	if external && b.ClusterListen != "" {
		v.fail("broker.cluster_listen", "is for the embedded broker only; broker.url names another server")
	}
	if external && len(b.Routes) > 0 {
		v.fail("broker.routes", "are for the embedded broker only; broker.url names another server")
	}
	if !external && b.CredentialsFile != "" {
		v.fail("broker.credentials_file", "is for an external broker, and broker.url names none; routes may have a user and a password")
	}
	if !external && b.ClusterListen == "" && len(b.Routes) > 0 {
		v.fail("broker.routes", "need broker.cluster_listen: the servers of all nodes connect to each other")
	}
	if !external && b.ClusterListen != "" && b.TLS != (TLS{}) && (b.TLS.CA == "" || b.TLS.Cert == "") {
		v.fail("broker.tls", "needs ca, cert and key for the embedded broker: each node checks the others' certificates")
	}
}

func (t Telemetry) validate(v checker) {
	if t.OTLPEndpoint != "" {
		v.url("telemetry.otlp_endpoint", t.OTLPEndpoint, "http", "https", "grpc")
	}
	if !(t.TraceSampleRatio >= 0 && t.TraceSampleRatio <= 1) { // so that NaN is refused
		v.fail("telemetry.trace_sample_ratio", "has to be from 0 to 1")
	}
	if t.PyroscopeURL != "" {
		v.url("telemetry.pyroscope_url", t.PyroscopeURL, "http", "https")
	}
	if t.TimelineMetricsLimit < 0 {
		v.fail("telemetry.timeline_metrics_limit", "has to be 0 or more")
	}
	v.oneOf("telemetry.log_level", t.LogLevel, "debug", "info", "warn", "error")
	v.oneOf("telemetry.log_format", t.LogFormat, "json", "text")
}

func (c *Config) validateTimelines(v checker) {
	seen := map[string]bool{}
	for i, t := range c.Timelines {
		key := "timelines[" + strconv.Itoa(i) + "]"
		switch {
		case !nameRule.MatchString(t.Name):
			v.fail(key, "needs a name as TENANT/TIMELINE, such as acme/main: lower-case letters, digits and hyphens, not %q", v.written(key+".name"))
		case seen[t.Name]:
			v.fail(key, "has the name %q a second time", v.written(key+".name"))
		}
		seen[t.Name] = true
		if err := conninfo.Check(t.Source); err != nil {
			v.fail(key, "has a source that cannot be used: %v", err)
		}
	}
}

// oneOf checks a word against a closed list.
func (c checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail(key, "has to be one of %s, not %q", strings.Join(allowed, ", "), c.written(key))
	}
}

// address checks a host:port to listen on; the host may be empty, for all.
func (c checker) address(key, value string) {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		c.fail(key, "has to be host:port, such as 127.0.0.1:7070, not %q", c.written(key))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		c.fail(key, "has to end in a port from 0 to 65535, not %q", c.written(key))
	}
}

// url checks a URL's scheme. It may hold a secret, so it is not shown.
func (c checker) url(key, value string, schemes ...string) {
	scheme, rest, ok := strings.Cut(value, "://")
	if !ok || !slices.Contains(schemes, scheme) {
		c.fail(key, "has to be a URL that begins with %s://", strings.Join(schemes, ":// or "))
		return
	}
	if _, err := url.Parse(value); err != nil || (rest == "" && scheme != "mem") {
		c.fail(key, "is not a valid %s:// URL", scheme)
	}
}
