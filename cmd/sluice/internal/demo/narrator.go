package demo

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// narrator writes the story: plain lines, since a log is read as well as a
// terminal. Several goroutines may use it.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer // guarded by mu
	steps int       // told so far; guarded by mu
}

// line writes one line. Nobody is told if it cannot be written: what counts is
// the exit status.
func (s *narrator) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// step begins a numbered step.
func (s *narrator) step(format string, args ...any) {
	s.mu.Lock()
	s.steps++
	number := s.steps
	s.mu.Unlock()
	s.line("\n%2d. %s", number, fmt.Sprintf(format, args...))
}

// command shows what a user would type in a shell.
func (s *narrator) command(format string, args ...any) { s.line("    $ "+format, args...) }

// statement shows what a user would type in psql.
func (s *narrator) statement(sql string) { s.line("    postgres=# %s;", sql) }

// detail tells more of a step.
func (s *narrator) detail(format string, args ...any) { s.line("    "+format, args...) }

// indented shows the output of a program.
func (s *narrator) indented(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		s.line("      %s", strings.TrimRight(line, "\n"))
	}
}

// verdict shows the count.
func (s *narrator) verdict(t tally) {
	s.detail("acknowledged  %10s", thousands(t.acknowledged))
	s.detail("found         %10s", thousands(t.intact))
	s.detail("lost          %10s", thousands(t.lost()))
	if t.damaged > 0 {
		s.detail("of the lost, %s are there with another content", thousands(t.damaged))
	}
	if t.extra > 0 {
		s.detail("(and %s more, committed when the kill cut off their acknowledgement)", thousands(t.extra))
	}
}

// thousands writes a count with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// commandLine shows a command as a shell would take it.
func commandLine(name string, args ...string) string {
	words := []string{name}
	for _, arg := range args {
		if strings.ContainsAny(arg, " '$\"\\*?;&|<>()%") || arg == "" {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
