package pg_test

import (
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

const (
	mib = pg.SegmentSize(1 << 20)
	gib = pg.SegmentSize(1 << 30)
)

func TestSegmentSizeText(t *testing.T) {
	for text, want := range map[string]pg.SegmentSize{
		"1MB": mib, "16MB": 16 * mib, "64MB": 64 * mib, "512MB": 512 * mib, "1GB": gib, "1024MB": gib, "16777216": 16 * mib, "16384kB": 16 * mib,
	} {
		if got, err := pg.ParseSegmentSize(text); err != nil || got != want {
			t.Errorf("ParseSegmentSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "0", "3MB", "512kB", "2GB", "4294967297MB", "17592186044417kB", "-16MB", "16 MB", "16mb", "16MBB", "16TB", "1.5GB"} {
		if got, err := pg.ParseSegmentSize(text); err == nil {
			t.Errorf("ParseSegmentSize(%q) = %d, want an error", text, got)
		}
	}
	for size, want := range map[pg.SegmentSize]string{mib: "1MB", 16 * mib: "16MB", gib: "1GB", 8192: "8192B", 0: "0B"} {
		if size.String() != want {
			t.Errorf("%d prints as %q, want %q", uint32(size), size, want)
		}
	}
}

func TestSegmentArithmetic(t *testing.T) {
	for _, c := range []struct {
		size    pg.SegmentSize
		lsn     pg.LSN
		segment pg.SegNo
		start   pg.LSN
		offset  int64
	}{
		{size: 16 * mib, lsn: 0, segment: 0, start: 0, offset: 0},
		{size: 16 * mib, lsn: 0xFFFFFF, segment: 0, start: 0, offset: 0xFFFFFF},
		{size: 16 * mib, lsn: 0x1000000, segment: 1, start: 0x1000000, offset: 0},
		{size: 16 * mib, lsn: 0x1_0000_0028, segment: 256, start: 0x1_0000_0000, offset: 0x28},
		{size: mib, lsn: 0x1_0010_0001, segment: 4097, start: 0x1_0010_0000, offset: 1},
		{size: gib, lsn: 1<<64 - 1, segment: 1<<34 - 1, start: 0xFFFFFFFF_C0000000, offset: 1<<30 - 1},
	} {
		if got := c.size.SegNo(c.lsn); got != c.segment {
			t.Errorf("%s, %s: SegNo %d, want %d", c.size, c.lsn, got, c.segment)
		}
		if got := c.size.StartOf(c.lsn); got != c.start || got != c.size.Start(c.segment) {
			t.Errorf("%s, %s: StartOf %s, Start %s, want %s", c.size, c.lsn, got, c.size.Start(c.segment), c.start)
		}
		if got := c.size.Offset(c.lsn); got != c.offset {
			t.Errorf("%s, %s: Offset %d, want %d", c.size, c.lsn, got, c.offset)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, c := range []struct {
		size pg.SegmentSize
		tli  pg.TLI
		lsn  pg.LSN
		name string
	}{
		{16 * mib, 1, 0x1000000, "000000010000000000000001"},
		{16 * mib, 1, 0x1_0000_0000, "000000010000000100000000"},
		{16 * mib, 0x1A, 0xAB_FF000000, "0000001A000000AB000000FF"},
		{mib, 1, 0xFFF00000, "000000010000000000000FFF"},
		{gib, 2, 0x7_C0000000, "000000020000000700000003"},
		{gib, 1<<32 - 1, 1<<64 - 1, "FFFFFFFFFFFFFFFF00000003"},
	} {
		n := c.size.SegNo(c.lsn)
		if got := pg.SegmentName(c.tli, n, c.size); got != c.name {
			t.Errorf("%s, %s: SegmentName %s, want %s", c.size, c.lsn, got, c.name)
		}
		if tli, got, err := pg.ParseSegmentName(c.name, c.size); err != nil || tli != c.tli || got != n {
			t.Errorf("%s, %s: %d, %d, %v; want %d, %d", c.size, c.name, tli, got, err, c.tli, n)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	for _, name := range []string{
		"", "000000010000000000000001.partial", "00000001000000000000001", "0000000100000000000000001",
		"00000001000000000000000a", "000000000000000000000001", "000000010000000000000100", "+00000010000000000000001", "00000002.history",
	} {
		if tli, n, err := pg.ParseSegmentName(name, 16*mib); err == nil {
			t.Errorf("ParseSegmentName(%q) = %d, %d; want an error", name, tli, n)
		}
	}
	for _, name := range []string{"", ".history", "2.history", "0000000a.history", "00000000.history", "000000002.history", "00000002.history.partial", "00000002"} {
		if tli, err := pg.ParseHistoryName(name); err == nil {
			t.Errorf("ParseHistoryName(%q) = %d; want an error", name, tli)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("000000010000000000000001", uint8(4))
	f.Add("FFFFFFFFFFFFFFFF00000003", uint8(10))
	f.Add("0000000A.history", uint8(0))
	f.Fuzz(func(t *testing.T, name string, exponent uint8) {
		size := mib << (exponent % 11)
		if tli, n, err := pg.ParseSegmentName(name, size); err == nil && pg.SegmentName(tli, n, size) != name {
			t.Errorf("%q is segment %d of TLI %d, which is called %q", name, n, tli, pg.SegmentName(tli, n, size))
		}
		if tli, err := pg.ParseHistoryName(name); err == nil && pg.HistoryName(tli) != name {
			t.Errorf("%q is the history of TLI %d, which is called %q", name, tli, pg.HistoryName(tli))
		}
	})
}
