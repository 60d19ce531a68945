package notices

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// tells are the calls that tell somebody of a change, by how the function is written.
var tells = regexp.MustCompile(`(^|\.)(Ring|SetFor|PeersSaid|PeerUpdate|Progress|tellIterated|tellAll|Tell|ring|ask)$|\.progress$|\b[ms]\.Synced$` +
	`|\.(Flush|Commit)\.Set$|(^|\.)m\.tell$|^b\.update$|\blink\.changed$|\.cfg\.Ended$|^told$`)

// notice is one such call. What is left of it without the call still uses its function and its arguments.
type notice struct {
	dir, file   string // below root
	line        int
	text        string // the call, as it is written
	fun, parens span   // where the function is named, and where the arguments are
}

// span is a place in a file, in bytes.
type span struct{ from, to int }

// find lists the notices of a directory that are in a build without tags.
func find(dir string) ([]notice, error) {
	pkg, err := build.ImportDir(filepath.Join(root, dir), 0)
	if err != nil {
		return nil, err
	}
	var all []notice
	for _, file := range pkg.GoFiles {
		path := filepath.Join(dir, file)
		src, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return nil, err
		}
		found, err := findIn(path, src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// findIn lists those of a file. A call whose result is used tells nobody by itself.
func findIn(path string, src []byte) ([]notice, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, 0)
	if err != nil {
		return nil, err
	}
	var all []notice
	ast.Inspect(file, func(n ast.Node) bool {
		if call := statement(n); call != nil && tells.MatchString(printed(call.Fun)) {
			at := func(from, to token.Pos) span { return span{fset.Position(from).Offset, fset.Position(to).Offset} }
			all = append(all, notice{
				dir: filepath.Dir(path), file: path, line: fset.Position(call.Pos()).Line, text: printed(call),
				fun: at(call.Fun.Pos(), call.Fun.End()), parens: at(call.Lparen, call.Rparen+1),
			})
		}
		return true
	})
	return all, nil
}

// statement is the call that a statement makes, now or at the end of its function.
func statement(n ast.Node) *ast.CallExpr {
	switch s := n.(type) {
	case *ast.ExprStmt:
		call, _ := s.X.(*ast.CallExpr)
		return call
	case *ast.DeferStmt:
		return s.Call
	}
	return nil
}

func printed(n ast.Node) string {
	var b bytes.Buffer
	_ = printer.Fprint(&b, token.NewFileSet(), n) // a buffer takes everything
	return b.String()
}

// leftOut is the file's text without the call: nothing is called with the function and its arguments.
func (n *notice) leftOut(src []byte) []byte {
	fun, args := string(src[n.fun.from:n.fun.to]), string(src[n.parens.from+1:n.parens.to-1])
	var b bytes.Buffer
	b.Write(src[:n.fun.from])
	b.WriteString("func(...any) {}(" + fun)
	if strings.TrimSpace(args) != "" {
		b.WriteString(", " + args)
	}
	b.WriteString(")")
	b.Write(src[n.parens.to:])
	return b.Bytes()
}

func TestCallIsLeftOut(t *testing.T) {
	const src = `package p

func f(w *Wake) error {
	defer m.tellIterated()
	t.wake.Flush.Set(uint64(now()))
	if r.tell(s) && m.tell == nil {
		return m.Synced()
	}
	go func() { wake.Ring(timeline.ReasonTaskEnded) }()
	return nil
}
`
	const want = `package p

func f(w *Wake) error {
	defer func(...any) {}(m.tellIterated)
	func(...any) {}(t.wake.Flush.Set, uint64(now()))
	if r.tell(s) && m.tell == nil {
		return m.Synced()
	}
	go func() { func(...any) {}(wake.Ring, timeline.ReasonTaskEnded) }()
	return nil
}
`
	found, err := findIn("p.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	got := []byte(src)
	for i := len(found) - 1; i >= 0; i-- { // from behind, so that places before stay what they were
		got = found[i].leftOut(got)
	}
	if string(got) != want {
		t.Errorf("%d calls were found; without them:\n%s", len(found), got)
	}
}
