package pgserver

import (
	"os"
	"strings"
)

// logTailLines is how much of the log an error carries.
const logTailLines = 15

// Log returns the last lines of the server's log, for an error's text; empty
// if there is none.
func (s *Server) Log(lines int) string { return tail(s.logSince(0), lines) }

func (s *Server) logSize() int64 {
	info, err := os.Stat(s.LogFile())
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince reads the log from an offset on.
func (s *Server) logSince(offset int64) string {
	b, err := os.ReadFile(s.LogFile())
	if err != nil || int64(len(b)) < offset {
		return ""
	}
	return string(b[offset:])
}

// tail returns the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
