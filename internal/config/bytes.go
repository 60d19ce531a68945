package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size.
type Bytes int64

// units of sizes, the longer suffix before the one that it ends with.
var units = []struct {
	suffix string
	size   int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// ParseBytes parses "1GiB", "1.5 GB" or "1048576".
func ParseBytes(s string) (Bytes, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			return 0, fmt.Errorf("size %q: %w", s, errors.Unwrap(err))
		}
		if x *= float64(u.size); math.IsNaN(x) || x < 0 || x >= math.MaxInt64 {
			return 0, fmt.Errorf("size %q is out of range", s)
		}
		return Bytes(x), nil
	}
	return 0, fmt.Errorf("size %q", s)
}

// String returns the size in the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if size := units[u].size; b != 0 && int64(b)%size == 0 {
			return strconv.FormatInt(int64(b)/size, 10) + units[u].suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
