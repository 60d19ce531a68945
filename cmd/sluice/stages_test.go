package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/telemetry"
)

// newStages are those of a node without a keeper, and what it logs.
func newStages(t *testing.T) (*stages, *syncBuffer) {
	t.Helper()
	log := &syncBuffer{}
	tel, err := telemetry.Start(t.Context(), telemetry.Config{LogOutput: log, Getenv: func(string) string { return "" }})
	must(t, err)
	s := &stages{node: newNode("a", "v0", tel), log: tel.Logger(), tel: tel}
	s.node.shutdown = s
	return s, log
}

// TestStageThatDoesNotEndIsAbandoned (X2): the next stages have their turn, and the whole ends soon after its time.
func TestStageThatDoesNotEndIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := newStages(t)
		leave, err := s.node.admit(timeline.WithClient(t.Context(), "192.0.2.7:40404"), "GET /slow")
		must(t, err)
		go func() { _ = s.node.requests.Close(context.WithoutCancel(t.Context())) }()
		hang, began := make(chan struct{}), time.Now()
		step := func(name string, stop func(context.Context) error) stage {
			return stage{name: name, share: 25, stop: stop}
		}
		deaf := func(context.Context) error { <-hang; return nil }
		late := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		fine := func(context.Context) error { return nil }
		err = s.run(t.Context(), "signal", 40*time.Second, []stage{step("a", fine), step("b", deaf), step("c", late), step("d", fine)})
		if !errors.Is(err, errAbandoned) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stage b") {
			t.Errorf("the shutdown ends with %v", err)
		}
		var order string
		for _, st := range s.stats() {
			order += st.Name
		}
		if order != "abcd" {
			t.Errorf("the stages ran as %s", order)
		}
		if took := time.Since(began); took > 31*time.Second {
			t.Errorf("it took %v", took)
		}
		if text := log.String(); !strings.Contains(text, "shutdown stage is late") || !strings.Contains(text, "http: GET /slow for 192.0.2.7:40404 (") {
			t.Errorf("the log does not say whom a late stage waits for: %s", text)
		}
		if text := log.String(); !strings.Contains(text, `"msg":"shutdown ended"`) || !strings.Contains(text, `"stages":{"a":`) {
			t.Errorf("the log does not sum up: %s", text)
		}
		close(hang)
		leave()
	})
}

// TestStageThatLastsIsLoggedEverMoreSeldom, and at once when it becomes late; its spans come each second.
func TestStageThatLastsIsLoggedEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := newStages(t)
		began := time.Now()
		lasts := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		_ = s.run(t.Context(), "signal", 10*time.Minute, []stage{{name: "a", share: 100, stop: lasts}})
		var at []int
		for line := range strings.Lines(log.String()) {
			var r struct {
				Time time.Time
				Msg  string
			}
			must(t, json.Unmarshal([]byte(line), &r))
			if r.Msg == "shutdown stage is late" {
				at = append(at, int(r.Time.Sub(began).Seconds()))
			}
		}
		if want := []int{300, 301, 303, 307, 315, 331, 363, 423, 483, 543}; !slices.Equal(at, want) {
			t.Errorf("it is said after %v seconds, want %v", at, want)
		}
	})
}

func TestStageUnderWayIsListedBeforeTheGates(t *testing.T) {
	s, _ := newStages(t)
	if got := s.node.Gates(); len(got) != 0 {
		t.Errorf("a node that runs lists %+v", got)
	}
	pass, err := s.node.requests.Enter(t.Context(), "GET /slow")
	must(t, err)
	var seen []api.ClosingGate
	err = s.run(t.Context(), "signal", time.Minute, []stage{{name: "http", share: 100, stop: func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		err := s.node.visits.Close(ctx)
		seen = s.node.Gates()
		pass.Leave()
		return err
	}}})
	if ce := new(gate.CloseError); !errors.As(err, &ce) {
		t.Errorf("the stage ended with %v", err)
	}
	if len(seen) != 2 || seen[0].Gate != api.GateStage || seen[0].Stage != "http" || seen[1].Gate != gateHTTP || seen[1].Holders[0].Name != "GET /slow" {
		t.Errorf("listed were %+v", seen)
	}
}

// TestClosingGatesAreListedOldestFirst, whatever they are of.
func TestClosingGatesAreListedOldestFirst(t *testing.T) {
	ctx := t.Context()
	s, _ := newStages(t)
	k, err := keeper.Open(ctx, keeper.Config{NodeID: "a", DataDir: t.TempDir()})
	must(t, err)
	s.node.serve(k)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	var passes []gate.Pass
	for _, name := range []string{"z", "m", "a"} {
		id := timeline.ID{Tenant: timeline.TenantID(name), Name: name}
		must(t, k.CreateTimeline(ctx, id, "", false))
		m, err := k.Member(id)
		must(t, err)
		pass, err := m.Enter(ctx, "request")
		must(t, err)
		passes = append(passes, pass)
		_ = m.Gate().Close(gone) // it gives up at once, and stays closed to newcomers
	}
	var got []string
	for _, g := range s.node.Gates() {
		got = append(got, g.Timeline)
	}
	if strings.Join(got, "") != "zma" {
		t.Errorf("listed are %v", got)
	}
	for _, p := range passes {
		p.Leave()
	}
	must(t, k.Shutdown(ctx))
}

// TestDiagnosticsAreBounded: a node that is stuck again and again does not fill its disk.
func TestDiagnosticsAreBounded(t *testing.T) {
	d := &diagnostics{dir: t.TempDir()}
	foreign := filepath.Join(d.dir, "0-notes.txt")
	must(t, os.WriteFile(foreign, nil, 0o600))
	var last string
	for range keptDiagnostics + 3 {
		path, err := d.write("stage-x")
		must(t, err)
		last = path
	}
	files := readDir(t, d.dir)
	if len(files) != keptDiagnostics+1 || files[0] != filepath.Base(foreign) || !strings.HasSuffix(last, files[len(files)-1]) {
		t.Errorf("%d files are kept, the last is %s, written was %s", len(files), files[len(files)-1], last)
	}
}

func TestOldDiagnosticsGoWhenTheyAreLarge(t *testing.T) {
	d := &diagnostics{dir: t.TempDir()}
	for _, name := range []string{"20260101T000000.000000Z-a", "20260102T000000.000000Z-b", "20260103T000000.000000Z-c"} {
		must(t, os.Mkdir(filepath.Join(d.dir, name), 0o700))
		f, err := os.Create(filepath.Join(d.dir, name, "flight.trace"))
		must(t, err)
		must(t, errors.Join(f.Truncate(keptDiagnosticsBytes/2), f.Close()))
	}
	path, err := d.write("x")
	must(t, err)
	if got, want := readDir(t, d.dir), []string{"20260102T000000.000000Z-b", "20260103T000000.000000Z-c", filepath.Base(path)}; !slices.Equal(got, want) {
		t.Errorf("kept are %v, want %v", got, want)
	}
	if got := readDir(t, path); !slices.Equal(got, []string{"gates.json", "goroutines.txt"}) {
		t.Errorf("written are %v", got)
	}
}
