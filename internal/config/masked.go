package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sluicewal/sluice/internal/conninfo"
)

// masked stands for what is not shown.
const masked = "***"

// Masked returns the configuration as it counts, defaults included, without any secret: for reports.
func (c *Config) Masked() ([]byte, error) {
	shown := *c
	shown.Peers, shown.Timelines = slices.Clone(c.Peers), slices.Clone(c.Timelines)
	shown.Broker.Routes = slices.Clone(c.Broker.Routes)
	for i := range shown.Peers {
		maskURLs(&shown.Peers[i].URL)
	}
	for i := range shown.Broker.Routes {
		maskURLs(&shown.Broker.Routes[i])
	}
	for i, t := range shown.Timelines {
		shown.Timelines[i].Source = conninfo.Mask(t.Source)
	}
	maskURLs(&shown.Node.Advertise, &shown.ObjectStore.URL, &shown.Broker.URL, &shown.Telemetry.OTLPEndpoint, &shown.Telemetry.PyroscopeURL)
	text, err := yaml.Marshal(&shown)
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return text, nil
}

// maskURLs masks each of several URLs that commas separate.
func maskURLs(texts ...*string) {
	for _, text := range texts {
		urls := strings.Split(*text, ",")
		for i, u := range urls {
			urls[i] = MaskURL(u)
		}
		*text = strings.Join(urls, ",")
	}
}

// plainKeys are the parameters of a store's URL that say how, and open nothing.
var plainKeys = []string{"endpoint", "region", "use_path_style", "request_checksum_calculation", "prefix", "create_dir", "metadata", "no_tmp_dir", "disable_https", "hostname_immutable"}

// MaskURL returns a URL without what may be a secret in it: user, password, and the values of all parameters but those that are
// known to be none. What cannot be read is masked whole; a word that is no URL stays.
func MaskURL(text string) string {
	if !strings.ContainsAny(text, ":@?") {
		return text
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Opaque != "" {
		return masked
	}
	if u.User != nil {
		u.User = url.User("xxx")
	}
	query := u.Query()
	for key := range query {
		switch {
		case !slices.Contains(plainKeys, key):
			query[key] = []string{"xxx"}
		case key == "endpoint":
			query[key] = []string{MaskURL(query.Get(key))}
		}
	}
	u.RawQuery = query.Encode()
	if u.Fragment != "" {
		u.Fragment = "xxx"
	}
	return u.String()
}
