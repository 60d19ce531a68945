package config

import (
	"slices"
	"strings"
)

// comingKeys are read and checked, but the part of Sluice that they steer is not there yet. A key ends
// in a dot where all below it is meant.
var comingKeys = []string{
	"node.advertise", "listen.postgres",
}

// WithoutEffect returns the keys that the file sets and that change nothing in this version, in order.
func WithoutEffect(cfg *Config) []string {
	var keys []string
	for key := range cfg.at {
		if isComing(key) && !cfg.hasBelow(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func isComing(key string) bool {
	return slices.ContainsFunc(comingKeys, func(coming string) bool {
		if strings.HasSuffix(coming, ".") {
			return strings.HasPrefix(key, coming) && !strings.Contains(key, "[")
		}
		return key == coming
	})
}

// hasBelow reports whether key is a mapping of which the file sets something.
func (c *Config) hasBelow(key string) bool {
	for other := range c.at {
		if strings.HasPrefix(other, key+".") {
			return true
		}
	}
	return false
}
