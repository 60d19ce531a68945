package broker

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluicewal/sluice/internal/pg"
)

const incarnation = "0195e7a0-0000-7000-8000-000000000001"

func at(tli pg.TLI, lsn pg.LSN) pg.Position { return pg.Position{TLI: tli, LSN: lsn} }

// full is a status that says everything it can.
func full() Status {
	return Status{
		Key: Key{"acme/main", incarnation}, SystemID: math.MaxUint64,
		Start: at(1, 0x1000000), Flush: at(math.MaxUint32, math.MaxUint64), RecordEnd: math.MaxUint64 - 8,
		Commit: at(2, 0x5000000), Backup: at(1, 0x4000000),
		Active: true, Qualified: true, CanUpload: true, Offloading: true, Stalled: 61 * time.Second,
	}
}

// encode makes a message of node a's only process.
func encode(sequence uint64, statuses ...Status) []byte {
	return encodeAs(header{version, "a", 1, sequence}, statuses...)
}

func encodeAs(h header, statuses ...Status) []byte {
	b := appendHeader(nil, h)
	for i := range statuses {
		b = appendStatus(b, &statuses[i])
	}
	return b
}

// statuses are what a message says, with names that do not share its memory.
func (m *message) statuses() []Status {
	var list []Status
	for _, s := range m.said {
		s.status.Key = Key{string(s.timeline), string(s.incarnation)}
		list = append(list, s.status)
	}
	return list
}

func TestMessageSaysWhatWasTold(t *testing.T) {
	zero := Status{Key: Key{"t/l", "i"}}
	var m message
	if err := m.read(encode(7, full(), zero)); err != nil {
		t.Fatal(err)
	}
	if want := (header{version, "a", 1, 7}); m.header != want {
		t.Errorf("header %+v, want %+v", m.header, want)
	}
	if got, want := m.statuses(), []Status{full(), zero}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestStatusHasRoom(t *testing.T) {
	s := full()
	s.Timeline, s.Incarnation = strings.Repeat("t", maxTimelineBytes), strings.Repeat("i", maxIncarnationBytes)
	s.Stalled = math.MaxInt64
	if n := len(appendStatus(nil, &s)); n > statusRoom {
		t.Errorf("a status takes %d bytes, at most %d are reckoned with", n, statusRoom)
	}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	b := encode(7, full())
	b = protowire.AppendString(protowire.AppendTag(b, 99, protowire.BytesType), "a newer node says more")
	b = protowire.AppendVarint(protowire.AppendTag(b, 98, protowire.VarintType), 1)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 97, protowire.Fixed32Type), 1)
	var m message
	if err := m.read(b); err != nil {
		t.Fatal(err)
	}
	if got := m.statuses(); !reflect.DeepEqual(got, []Status{full()}) {
		t.Errorf("%+v", got)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	long := full()
	long.Timeline = strings.Repeat("t", maxTimelineBytes+1)
	nameless := full()
	nameless.Incarnation = ""
	many := make([]Status, maxStatuses+1)
	for i := range many {
		many[i].Key = Key{"t", "i"}
	}
	whole := encode(7, full())
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":             {nil, errMalformed},
		"text":                {[]byte("hello"), errMalformed},
		"cut":                 {whole[:len(whole)-1], errMalformed},
		"too large":           {make([]byte, maxMessageBytes+1), errMalformed},
		"too many statuses":   {encode(7, many...), errMalformed},
		"a name too long":     {encode(7, long), errMalformed},
		"no incarnation":      {encode(7, nameless), errMalformed},
		"no sender":           {encodeAs(header{version, "", 1, 7}), errMalformed},
		"no start":            {encodeAs(header{version, "a", 0, 7}), errMalformed},
		"a sender too long":   {encodeAs(header{version, strings.Repeat("a", maxNodeBytes+1), 1, 7}), errMalformed},
		"no version":          {encodeAs(header{0, "a", 1, 7}), errMalformed},
		"a newer version":     {encodeAs(header{version + 1, "a", 1, 7}), errVersion},
		"a number for a name": {appendVarint(encode(7), fieldNode, 1), errMalformed},
		"a TLI too high": {protowire.AppendBytes(protowire.AppendTag(encode(7), fieldStatus, protowire.BytesType),
			protowire.AppendBytes(protowire.AppendTag(nil, fieldFlush, protowire.BytesType),
				appendVarint(nil, fieldTLI, math.MaxUint32+1))), errMalformed},
	} {
		var m message
		if err := m.read(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzMessage reads anything; what can be read says the same when it is told again.
func FuzzMessage(f *testing.F) {
	f.Add(encode(7, full(), Status{Key: Key{"t/l", "i"}}))
	f.Add(encode(0))
	f.Add(encodeAs(header{version + 1, "b", 2, 1}, full()))
	f.Add([]byte{0x2a, 0x02, 0x0b, 0x0c}) // a group in a status
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again message
		if err := m.read(data); err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errVersion) {
				t.Fatalf("an error that is neither: %v", err)
			}
			return
		}
		told := m.statuses()
		if err := again.read(encodeAs(m.header, told...)); err != nil {
			if len(told)*statusRoom > maxMessageBytes {
				return // what was left out made it small
			}
			t.Fatalf("told again: %v", err)
		}
		if again.header != m.header || !reflect.DeepEqual(again.statuses(), told) {
			t.Fatalf("%+v\nand again %+v", m, again)
		}
	})
}
