package gate

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// visitors is what a gate promises, said without seats: who came, and has not
// left.
type visitors struct {
	gate    *Gate
	inside  []Pass
	gone    []Pass
	closing bool
	misused uint64
}

// TestGateKeepsItsBooks enters, leaves, leaves twice, clones and closes in any
// order, and compares the holders' list each time.
func TestGateKeepsItsBooks(t *testing.T) {
	kinds := []Holder{"receive", "request", "download"}
	rapid.Check(t, func(t *rapid.T) {
		v := &visitors{gate: New(Config{})}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				v.came(t, func() (Pass, error) {
					return v.gate.Enter(t.Context(), rapid.SampledFrom(kinds).Draw(t, "kind"))
				})
			},
			"clone": func(t *rapid.T) {
				pass := v.pick(t, v.inside)
				v.came(t, func() (Pass, error) { return pass.Clone(t.Context()) })
			},
			"leave": func(t *rapid.T) {
				pass := v.pick(t, v.inside)
				pass.Leave()
				v.inside = slices.DeleteFunc(v.inside, func(p Pass) bool { return p == pass })
				v.gone = append(v.gone, pass)
			},
			"leave twice": func(t *rapid.T) {
				v.pick(t, v.gone).Leave()
				v.misused++
			},
			"close": func(t *rapid.T) { v.close(t) },
			"":      func(t *rapid.T) { v.compare(t) },
		})
	})
}

func (v *visitors) pick(t *rapid.T, from []Pass) Pass {
	if len(from) == 0 {
		t.Skip("nobody")
	}
	return rapid.SampledFrom(from).Draw(t, "pass")
}

func (v *visitors) came(t *rapid.T, enter func() (Pass, error)) {
	pass, err := enter()
	if v.closing != errors.Is(err, ErrClosed) {
		t.Fatalf("closing=%v, entry answered %v", v.closing, err)
	}
	if err == nil {
		v.inside = append(v.inside, pass)
	}
}

// close does not wait: what matters is who is named.
func (v *visitors) close(t *rapid.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.closing = true
	err := v.gate.Close(ctx)
	var stuck *CloseError
	if named := errors.As(err, &stuck); named != (len(v.inside) > 0) {
		t.Fatalf("%d inside, close answered %v", len(v.inside), err)
	}
}

func (v *visitors) compare(t *rapid.T) {
	var want []Holder
	for _, p := range v.inside {
		want = append(want, p.holder())
	}
	got := names(v.gate.Holders())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("holders %v, want %v", got, want)
	}
	s := v.gate.Stats()
	if s.Inside != len(v.inside) || s.Misused != v.misused || s.Closed != (v.closing && len(v.inside) == 0) {
		t.Fatalf("stats %+v of %d inside, %d misuses, closing=%v", s, len(v.inside), v.misused, v.closing)
	}
}
