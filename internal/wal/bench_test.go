package wal_test

import (
	"fmt"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
)

// BenchmarkAppendAndSync is a commit, as far as the disk is concerned: TMPDIR says which.
func BenchmarkAppendAndSync(b *testing.B) {
	for _, size := range []int{256, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("%d", size), func(b *testing.B) { benchmark(b, size, true) })
	}
}

// BenchmarkAppend is catching up: one sync at the end.
func BenchmarkAppend(b *testing.B) { benchmark(b, 128<<10, false) }

func benchmark(b *testing.B, size int, sync bool) {
	const segment = pg.DefaultSegmentSize
	l, err := wal.Open(b.TempDir(), wal.Config{SegmentSize: segment}, wal.Vouched{})
	if err != nil {
		b.Fatal(err)
	}
	w := pgtest.NewWriter(pg.LSN(segment), segment, 1, systemID)
	if err := l.Start(position(1, w.Start())); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	at := w.Start()
	for b.Loop() {
		for w.End() < at+pg.LSN(size) {
			b.StopTimer()
			w.Record(8000)
			b.StartTimer()
		}
		if err := l.Append(at, slice(w, at, at+pg.LSN(size))); err != nil {
			b.Fatal(err)
		}
		at += pg.LSN(size)
		if !sync {
			continue
		}
		if _, err := l.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
