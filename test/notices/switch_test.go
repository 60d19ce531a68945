package notices

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// The variables with which a test's process is told which notice it leaves out, and where to write down those that it
// comes by.
const (
	leftOutVariable = "SLUICE_NOTICE_LEFT_OUT"
	reachedVariable = "SLUICE_NOTICES_REACHED"
)

// switchFile is put into each package that has notices. The statements are in one build, each behind its number: a build
// for each of them would take the most of the time.
const switchFile = `package %s

import (
	"os"
	"strconv"
	"sync/atomic"
)

var (
	noticeLeftOut, _  = strconv.Atoi(os.Getenv("` + leftOutVariable + `"))
	noticesReached, _ = os.OpenFile(os.Getenv("` + reachedVariable + `"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	noticeReached     [%d]atomic.Bool
)

func noticeStands(number int) bool {
	if noticesReached != nil && !noticeReached[number].Load() && noticeReached[number].CompareAndSwap(false, true) {
		_, _ = noticesReached.WriteString(strconv.Itoa(number) + "\n")
	}
	return number != noticeLeftOut
}
`

// behindSwitches is a file's text with each of its notices behind its number.
func behindSwitches(src []byte, notices []notice) []byte {
	before, after := map[int]string{}, map[int]string{}
	for _, n := range notices {
		before[n.from] = fmt.Sprintf("if noticeStands(%d) { ", n.number)
		after[n.to] = " }"
	}
	var out []byte
	for i, c := range src {
		out = append(append(append(out, after[i]...), before[i]...), c)
	}
	return out
}

// overlay makes what 'go test -overlay' reads: the files with switches in place of those that are there.
func overlay(root, dir string, notices []notice) (path string, err error) {
	byFile := map[string][]notice{}
	for _, n := range notices {
		byFile[n.file] = append(byFile[n.file], n)
	}
	replace := map[string]string{}
	put := func(file string, text []byte) error {
		at, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if replace[at] == "" {
			replace[at] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		}
		return os.WriteFile(replace[at], text, 0o600)
	}
	for file, of := range byFile {
		src, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.PackageClauseOnly)
		if err != nil {
			return "", err
		}
		theSwitch := fmt.Appendf(nil, switchFile, parsed.Name.Name, len(notices)+1)
		err = errors.Join(put(file, behindSwitches(src, of)), put(filepath.Join(filepath.Dir(file), "notice_switch.go"), theSwitch))
		if err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

func TestNoticesStandBehindSwitches(t *testing.T) {
	const src = `package p

func f(w *Wake) error {
	defer m.tellIterated()
	t.wake.Flush.Set(uint64(now()))
	if r.tell(s) && m.tell == nil {
		return m.Synced()
	}
	go func() { wake.Ring(timeline.ReasonTaskEnded) }()
	b.ask(func() {
		m.tell()
	})
	return nil
}
`
	const want = `package p

func f(w *Wake) error {
	if noticeStands(1) { defer m.tellIterated() }
	if noticeStands(2) { t.wake.Flush.Set(uint64(now())) }
	if r.tell(s) && m.tell == nil {
		return m.Synced()
	}
	go func() { if noticeStands(3) { wake.Ring(timeline.ReasonTaskEnded) } }()
	if noticeStands(4) { b.ask(func() {
		if noticeStands(5) { m.tell() }
	}) }
	return nil
}
`
	found, err := findInFile("p.go", []byte(src))
	must(t, err)
	for i := range found {
		found[i].number = i + 1
	}
	if got := string(behindSwitches([]byte(src), found)); got != want {
		t.Errorf("%d notices were found; behind switches:\n%s", len(found), got)
	}
}
