package notices

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the module's directory.
const root = "../.."

// tells are the calls that tell somebody of a change, by how the function is written. Each fits something, which
// TestEachExpressionFits holds it to.
var tells = []*regexp.Regexp{
	regexp.MustCompile(`\.Ring$`),
	regexp.MustCompile(`\.(Flush|Commit)\.Set$`),
	regexp.MustCompile(`\.SetFor$`),
	regexp.MustCompile(`\.PeersSaid$`),
	regexp.MustCompile(`\.PeerUpdate$`),
	regexp.MustCompile(`\b[ms]\.Synced$`),
	regexp.MustCompile(`\.Progress$`),
	regexp.MustCompile(`^s\.progress$`),
	regexp.MustCompile(`^told$`),
	regexp.MustCompile(`\.cfg\.Ended$`),
	regexp.MustCompile(`\.tellIterated$`),
	regexp.MustCompile(`\.cfg\.Tell$`),
	regexp.MustCompile(`\.broker\.Tell$`),
	regexp.MustCompile(`^m\.tell$`),
	regexp.MustCompile(`^b\.(tellAll|ring|ask|update)$`),
	regexp.MustCompile(`\blink\.changed$`),
}

// notice is a statement that makes such a call, now or at the end of its function.
type notice struct {
	number   int    // from 1
	file     string // below the root
	line     int
	function string // in which it stands
	text     string // the statement, as it is written
	from, to int    // its place in the file, in bytes
}

// String names the notice as the compiler would name its place.
func (n *notice) String() string {
	return fmt.Sprintf("%s:%d %s: %s", n.file, n.line, n.function, strings.Join(strings.Fields(n.text), " "))
}

// find lists the notices below a module's root that are in a build without tags.
func find(root string) (all []notice, err error) {
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata" || e.Name() == "test"):
			return fs.SkipDir
		}
		found, err := findInDirectory(root, path)
		all = append(all, found...)
		return err
	})
	for i := range all {
		all[i].number = i + 1
	}
	return all, err
}

func findInDirectory(root, dir string) (all []notice, err error) {
	pkg, err := build.ImportDir(dir, 0)
	if none := new(build.NoGoError); errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range pkg.GoFiles {
		path := filepath.Join(dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return nil, err
		}
		found, err := findInFile(below, src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// findInFile lists those of a file. A call whose result is used tells nobody by itself.
func findInFile(path string, src []byte) (all []notice, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call := called(n); call != nil && slices.ContainsFunc(tells, func(e *regexp.Regexp) bool { return e.MatchString(printed(call.Fun)) }) {
				at := fset.Position(n.Pos())
				all = append(all, notice{
					file: path, line: at.Line, function: f.Name.Name, text: printed(n), from: at.Offset, to: fset.Position(n.End()).Offset,
				})
			}
			return true
		})
	}
	return all, nil
}

// called is the call that a statement makes; nil: it makes none.
func called(n ast.Node) *ast.CallExpr {
	switch s := n.(type) {
	case *ast.ExprStmt:
		call, _ := s.X.(*ast.CallExpr)
		return call
	case *ast.DeferStmt:
		return s.Call
	case *ast.GoStmt:
		return s.Call
	}
	return nil
}

func printed(n ast.Node) string {
	var b bytes.Buffer
	_ = printer.Fprint(&b, token.NewFileSet(), n) // a buffer takes everything
	return b.String()
}

// Each expression fits a statement: one that does not any more would leave notices unasked of.
func TestEachExpressionFits(t *testing.T) {
	notices, err := find(root)
	must(t, err)
	for _, e := range tells {
		if !slices.ContainsFunc(notices, func(n notice) bool { return e.MatchString(calledBy(n.text)) }) {
			t.Errorf("no statement calls what %s fits", e)
		}
	}
}

// calledBy is the function that a statement's text calls.
func calledBy(text string) string {
	text = strings.TrimPrefix(strings.TrimPrefix(text, "defer "), "go ")
	return text[:strings.IndexByte(text, '(')]
}
