package replication

import (
	"testing"
	"time"
)

func TestModes(t *testing.T) {
	const much, little = 8 * mib, mib / 2
	for name, test := range map[string]struct {
		change func(*stream)
		want   mode
	}{
		"more than a word came":                {func(s *stream) { s.mode, s.full = idle, true }, live},
		"a word came":                          {func(s *stream) { s.mode, s.full = idle, false }, idle},
		"nothing comes":                        {func(s *stream) { s.mode, s.silence = idle, time.Millisecond }, idle},
		"something came":                       {func(*stream) {}, live},
		"quiet for a moment":                   {func(s *stream) { s.silence = idleAfter - 1 }, live},
		"quiet for longer":                     {func(s *stream) { s.silence = idleAfter }, idle},
		"far behind":                           {func(s *stream) { s.sourceEnd = base + much }, catchingUp},
		"much came at once":                    {func(s *stream) { s.disk.pending.bytes = catchUp }, catchingUp},
		"far behind, not compared":             {func(s *stream) { s.sourceEnd, s.verified = base+much, false }, live},
		"far behind, and the source is ending": {func(s *stream) { s.sourceEnd, s.phase = base+much, closing }, live},
		"nearly there, nothing under way":      {func(s *stream) { s.mode, s.sourceEnd = catchingUp, base+little }, live},
		"nearly there, a write is under way": {func(s *stream) {
			s.mode, s.sourceEnd, s.disk.beside = catchingUp, base+little, &beside{running: 1}
		}, catchingUp},
	} {
		s := working(t, 100)
		s.expect(base)
		s.sourceEnd = base
		test.change(s)
		if got := s.next(); got != test.want {
			t.Errorf("%s: mode %d, want %d", name, got, test.want)
		}
	}
}

// A stream that has nothing to do gives its memory back, and takes it again.
func TestIdleStreamHasNoMemory(t *testing.T) {
	s := working(t, 100)
	turn := func() {
		t.Helper()
		must(t, s.turn(t.Context()))
	}
	turn()
	if s.chunk == nil || s.disk.block == nil {
		t.Fatal("a live stream has none")
	}
	s.silence = idleAfter
	must(t, s.steer())
	if s.mode != idle || s.chunk != nil || s.disk.block != nil {
		t.Errorf("mode %d, chunk %t, block %t", s.mode, s.chunk != nil, s.disk.block != nil)
	}
	s.mode = live // as when the first bytes have come
	before := s.received
	turn()
	if s.received == before || s.voice.reported != s.received {
		t.Errorf("received up to %s, from %s; reported %s", s.received, before, s.voice.reported)
	}
}
