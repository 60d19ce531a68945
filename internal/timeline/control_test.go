package timeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// fullControl has a value in each field that is kept.
func fullControl() Control {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	return Control{
		Tenant: "acme", Timeline: "main", Revived: 1, Incarnation: "0197c0de-0000-7000-8000-000000000001", CreatedAt: at,
		Source: "host=127.0.0.1 password='it''s'", FileSource: "host=a",
		SystemID: 1<<64 - 1, SegmentSize: 1 << 20,
		Start: pg.Position{TLI: 1, LSN: 1 << 20}, JoinLSN: 1<<20 + 8, JoinTLI: 1, Away: true,
		Flush: pg.Position{TLI: 3, LSN: 1<<40 + 1}, RecordEnd: 1 << 40, Clean: true,
		Seals: []Seal{
			{TLI: 1, End: 1<<30 + 8, At: at, TailServed: true},
			{TLI: 3, End: 1 << 40, At: at, DataLossAccepted: true},
		},
		Quorums: []Quorum{
			{TLI: 1, Raw: `ANY 2 (a, "B c", d)`, K: 2, N: 3, Names: []string{"a", "b c", "d"}, Synchronous: true, Required: 2, RequiredBy: "ANY 2 (a, b, c)"},
			{TLI: 3, Raw: "*", K: 1, Unbounded: true, Synchronous: true, Required: 1, RequiredBy: "*"},
		},
		Ended:            &Ended{By: "b", At: at, Kept: true, Next: "0197c0de-0000-7000-8000-000000000003"},
		AcceptDataLossOn: 3, Deleting: true, KeepObjects: true, New: true, Again: true, Promised: 3,
		Nodes: []string{"b", "c"}, Commit: pg.Position{TLI: 3, LSN: 1<<40 - 8},
		Stored: &Stored{
			StoreID: "0197c0de-0000-7000-8000-000000000002", Compression: "zstd", Backup: pg.Position{TLI: 3, LSN: 1 << 39}, Claimed: 2,
			Partial: pg.Position{TLI: 3, LSN: 1<<39 + 8}, PartialAt: at, Conflict: 3, ConflictWhy: "two promotions",
			Newest: pg.History{TLI: 3, Forks: []pg.Fork{{TLI: 1, LSN: 1<<30 + 8}}},
		},
	}
}

func TestControlFileKeepsEveryField(t *testing.T) {
	want := fullControl()
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("this test sets no %s", v.Type().Field(i).Name)
		}
	}
	b, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeControl(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// sumUp is a control file with that body, its length and sum right.
func sumUp(version int, body string) []byte {
	return fmt.Appendf(nil, "%s %d %08x %d\n%s", controlMagic, version, crc32.Checksum([]byte(body), castagnoli), len(body), body)
}

func encoded(t testing.TB, c Control) []byte {
	t.Helper()
	b, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestControlFileThatIsNotWhatWasWritten(t *testing.T) {
	good := encoded(t, fullControl())
	body := string(good[bytes.IndexByte(good, '\n')+1:])
	foreign, err := json.Marshal(map[string]any{"id": "a", "version": 2})
	if err != nil {
		t.Fatal(err)
	}
	nameless := fullControl()
	nameless.Timeline = "../other"
	lifeless := fullControl()
	lifeless.Incarnation = ""
	sizeless := fullControl()
	sizeless.SegmentSize = 12345
	for name, c := range map[string]struct {
		file []byte
		text string // in the error
	}{
		"empty":               {nil, "does not begin with"},
		"a line and no more":  {[]byte("sluice-control 1 00000000 0"), "does not begin with"},
		"garbage":             {bytes.Repeat([]byte{0xde, 0xad}, 500), "does not begin with"},
		"zeros":               {make([]byte, 4096), "does not begin with"},
		"foreign JSON":        {foreign, "does not begin with"},
		"another magic":       {bytes.Replace(good, []byte("sluice"), []byte("sluise"), 1), "does not begin with"},
		"no version":          {bytes.Replace(good, []byte("control 1 "), []byte("control x "), 1), `version is "x"`},
		"version zero":        {sumUp(0, body), `version is "0"`},
		"a newer version":     {sumUp(controlVersion+1, body), "written by a newer sluice"},
		"without its end":     {good[:len(good)-1], "bytes and should hold"},
		"something after it":  {append(bytes.Clone(good), "{}\n"...), "bytes and should hold"},
		"another checksum":    {bytes.Replace(good, []byte(`"clean": true`), []byte(`"clean": fals`), 1), "checksum"},
		"JSON of other types": {sumUp(1, `{"tenant": 7}`), "cannot unmarshal"},
		"an array":            {sumUp(1, `[]`), "cannot unmarshal"},
		"nobody's":            {sumUp(1, `{}`), "tenant name"},
		"a path for a name":   {encoded(t, nameless), "timeline name"},
		"no incarnation":      {encoded(t, lifeless), "no incarnation"},
		"a wrong size":        {encoded(t, sizeless), "segment size 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeControl(c.file)
			if err == nil {
				t.Fatalf("it was taken: %+v", got)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("the error does not say %q: %v", c.text, err)
			}
			if damaged := errors.Is(err, ErrControlDamaged); damaged == (name == "a newer version") {
				t.Errorf("damaged: %v, by %v", damaged, err)
			}
		})
	}
}

func TestControlFileNoticesEveryBitAndEveryTruncation(t *testing.T) {
	good := encoded(t, fullControl())
	for n := range good {
		if _, err := decodeControl(good[:n]); err == nil {
			t.Fatalf("the first %d bytes were taken", n)
		}
		for bit := range 8 {
			flipped := bytes.Clone(good)
			flipped[n] ^= 1 << bit
			if _, err := decodeControl(flipped); err == nil {
				t.Fatalf("byte %d (%q) with bit %d flipped was taken", n, good[n], bit)
			}
		}
	}
}

func TestLoadControlSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*testing.T, *crashfs.FS)
		is      error
	}{
		"absent":      {func(*testing.T, *crashfs.FS) {}, fs.ErrNotExist},
		"garbage":     {func(t *testing.T, f *crashfs.FS) { put(t, f, []byte("hello")) }, ErrControlDamaged},
		"far too big": {func(t *testing.T, f *crashfs.FS) { put(t, f, make([]byte, controlMaxBytes+1)) }, syscall.EFBIG},
		"not readable": {func(t *testing.T, f *crashfs.FS) {
			put(t, f, encoded(t, fullControl()))
			f.Inject(func(op crashfs.Op) error {
				if op.Name == "Open" {
					return syscall.EACCES
				}
				return nil
			})
		}, fs.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := crashfs.New()
			if err := fsys.MkdirAll("/t"); err != nil {
				t.Fatal(err)
			}
			c.prepare(t, fsys)
			_, err := LoadControl(fsys, "/t")
			if !errors.Is(err, c.is) {
				t.Fatalf("got %v, want %v", err, c.is)
			}
			if !errors.Is(c.is, fs.ErrNotExist) && !strings.Contains(err.Error(), "/t") {
				t.Errorf("the error does not say where: %v", err)
			}
		})
	}
}

func put(t *testing.T, fsys wal.FS, b []byte) {
	t.Helper()
	if err := wal.WriteFileAtomic(fsys, filepath.Join("/t", controlFile), b); err != nil {
		t.Fatal(err)
	}
}

// FuzzDecodeControl: nothing but what was written is taken, and what is taken is written as it was.
func FuzzDecodeControl(f *testing.F) {
	good := encoded(f, fullControl())
	f.Add(good)
	f.Add(encoded(f, Control{Tenant: "a", Timeline: "b", Incarnation: "c"}))
	f.Add([]byte(nil))
	f.Add(good[:len(good)/2])
	f.Add(sumUp(2, "{}"))
	f.Add(sumUp(1, "null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeControl(b)
		if err != nil {
			return
		}
		again, err := decodeControl(encoded(t, c))
		if err != nil {
			t.Fatalf("what was read of %q cannot be read again: %v", b, err)
		}
		if !reflect.DeepEqual(again, c) {
			t.Fatalf("got %+v, then %+v", c, again)
		}
	})
}
