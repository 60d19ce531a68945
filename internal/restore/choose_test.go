package restore_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

const size = pg.DefaultSegmentSize

// TestChoose reads the scripts in testdata/choose. "places" says what there is, one place a line:
//
//	NAME [qualified] [system=ID] [history=TLI[@LSN:TLI…]] [commit=LSN] [start=LSN] [oldest=LSN] [seal=TLI@LSN]… [held=TLI@LSN..LSN]… [err=WORD]
//
// where history=1@0/5000100:2 is "TLI 1 to 0/5000100, then TLI 2", and the place named "store" is the object store. A place
// has the histories on its way but for TLI 1's. "ask" has a request a line: FILE [copy] [accept-data-loss].
func TestChoose(t *testing.T) {
	datadriven.Walk(t, "testdata/choose", func(t *testing.T, path string) {
		var w world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "places":
				w = world{quorum: restore.Quorum{Required: 1}}
				d.MaybeScanArgs(t, "required", &w.quorum.Required)
				for line := range strings.Lines(d.Input) {
					w.add(t, line)
				}
				return ""
			case "ask":
				return w.askAll(t, d.Input)
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// world is every place of a script.
type world struct {
	nodes  []scripted
	store  *scripted
	quorum restore.Quorum
}

// scripted is a place: its answer, but for the file, and the WAL that it holds.
type scripted struct {
	restore.Answer
	held []extent
}

// extent is unbroken WAL on one TLI.
type extent struct {
	tli      pg.TLI
	from, to pg.LSN
}

// answer is what the place says when it is asked for a file.
func (p scripted) answer(f restore.File) restore.Answer {
	a := p.Answer
	if f.History {
		a.HasHistory = f.TLI == a.History.TLI && f.TLI > 1
		for _, fork := range a.History.Forks {
			a.HasHistory = a.HasHistory || fork.TLI == f.TLI && f.TLI > 1
		}
		return a
	}
	a.Segments = map[pg.TLI]pg.LSN{}
	for _, x := range p.held {
		if x.from <= f.Start() && x.to > f.Start() {
			a.Segments[x.tli] = max(a.Segments[x.tli], min(x.to, f.End()))
		}
	}
	return a
}

func (w *world) choose(req restore.Request) restore.Decision {
	var nodes []restore.Answer
	for _, n := range w.nodes {
		nodes = append(nodes, n.answer(req.File))
	}
	if w.store == nil {
		return restore.Choose(req, nodes, nil, w.quorum)
	}
	store := w.store.answer(req.File)
	return restore.Choose(req, nodes, &store, w.quorum)
}

func (w *world) askAll(t *testing.T, input string) string {
	var out strings.Builder
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		f, err := restore.ParseFile(words[0], size)
		if err != nil {
			t.Fatal(err)
		}
		req := restore.Request{File: f, Timeline: "acme/main"}
		for _, flag := range words[1:] {
			req.Copy = req.Copy || flag == "copy"
			req.AcceptDataLoss = req.AcceptDataLoss || flag == "accept-data-loss"
		}
		fmt.Fprintf(&out, "%s: %s\n", strings.Join(words, " "), describe(f, w.choose(req)))
	}
	return out.String()
}

func describe(f restore.File, d restore.Decision) string {
	switch d.Kind {
	case restore.Absent:
		return map[bool]string{true: "absent, with loss: ", false: "absent: "}[d.Loss] + d.Text
	case restore.Unknown:
		retry := ""
		if d.Retry {
			retry = ", retry"
		}
		if d.Agrees {
			retry += ", agrees"
		}
		return fmt.Sprintf("unknown (%s%s): %s", d.Reason, retry, d.Text)
	}
	out := "file from " + strings.Join(d.From, ", ")
	if d.Loss {
		out = "what is left from " + strings.Join(d.From, ", ")
	}
	if d.Read != f {
		out += ", read from " + d.Read.Name()
	}
	if !f.History && d.UpTo < f.End() {
		out += fmt.Sprintf(", zeros from %s", d.UpTo)
	}
	if d.Tail != 0 {
		out += fmt.Sprintf(", tail of TLI %d", d.Tail)
	}
	return out
}

func (w *world) add(t *testing.T, line string) {
	words := strings.Fields(line)
	p := scripted{Answer: restore.Answer{From: words[0], Seals: map[pg.TLI]pg.LSN{}}}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		p.set(t, key, value)
	}
	if p.From == "store" {
		w.store = &p
		return
	}
	w.nodes = append(w.nodes, p)
}

func (p *scripted) set(t *testing.T, key, value string) {
	switch key {
	case "qualified":
		p.Qualified = true
	case "system":
		id, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		p.SystemID = id
	case "history":
		p.History = parseWay(t, value)
	case "commit":
		p.CommitLSN = lsn(t, value)
	case "start":
		p.StartLSN = lsn(t, value)
	case "oldest":
		p.OldestLSN = lsn(t, value)
	case "seal":
		tli, end := parseAt(t, value)
		p.Seals[tli] = lsn(t, end)
	case "held":
		tli, extentText := parseAt(t, value)
		from, to, _ := strings.Cut(extentText, "..")
		p.held = append(p.held, extent{tli, lsn(t, from), lsn(t, to)})
	case "err":
		p.Err = errors.New(strings.ReplaceAll(value, "_", " "))
	default:
		t.Fatalf("unknown key %q", key)
	}
}

// parseWay reads "1@0/5000100:2@0/6000100:3".
func parseWay(t *testing.T, s string) pg.History {
	var h pg.History
	for hop := range strings.SplitSeq(s, ":") {
		var end string
		h.TLI, end = parseAt(t, hop)
		if end != "" {
			h.Forks = append(h.Forks, pg.Fork{TLI: h.TLI, LSN: lsn(t, end)})
		}
	}
	return h
}

func parseAt(t *testing.T, s string) (pg.TLI, string) {
	number, rest, _ := strings.Cut(s, "@")
	tli, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return pg.TLI(tli), rest
}

func lsn(t *testing.T, s string) pg.LSN {
	l, err := pg.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
