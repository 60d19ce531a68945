package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// An Error is everything that is wrong with a configuration, in the order of the file.
type Error struct {
	Problems []Problem
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// A Problem is one thing to mend.
type Problem struct {
	File         string
	Line, Column int // from 1; 0 where there is no place to point at
	Text         string
}

// String returns "file:line:column: text", as compilers do.
func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// position is a place in the file, from 1.
type position struct{ line, column int }

func positionOf(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key // a block mapping's own token is the first colon
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{}
}

func (d *decoder) problem(at position, format string, args ...any) Problem {
	return Problem{File: d.file, Line: at.line, Column: at.column, Text: fmt.Sprintf(format, args...)}
}

// fail notes a problem at a place; the reading goes on, to find the others.
func (d *decoder) fail(at position, format string, args ...any) {
	d.problems = append(d.problems, d.problem(at, format, args...))
}

// failure returns all that was noted, in the order of the file.
func (d *decoder) failure() error {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{Problems: d.problems}
}
