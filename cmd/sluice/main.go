// Command sluice keeps PostgreSQL's write-ahead log: the node, and the verbs of those who run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set when a release is built.
var version = ""

// The exit codes of all verbs but wal-fetch, which has its own.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if code, handled := walFetchMain(os.Args[1:]); handled {
		os.Exit(code)
	}
	ctx, stop := interruptible()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible returns a context that ends with the first SIGINT or SIGTERM. The second ends the
// process at once: whoever sends it does not want to wait.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case s := <-signals:
				if n > 0 {
					fmt.Fprintf(os.Stderr, "sluice: second signal (%s), exiting at once\n", s)
					os.Exit(exitFailed)
				}
				cancel(signalError{s})
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done) }
}

// signalError is the cause of a context that ended with a signal.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return "signal: " + e.String() }

// run runs one verb and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	parser, err := newParser(stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "sluice: %v\n", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "sluice: %v\n%s\n", err, helpHint(err))
		return exitUsage
	}
	k.BindTo(ctx, (*context.Context)(nil))
	return exitCode(k.Run(), stderr)
}

// exitCode says what went wrong, unless the verb has done so itself.
func exitCode(err error, stderr io.Writer) int {
	var coder interface{ ExitCode() int }
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coder):
		return coder.ExitCode()
	}
	fmt.Fprintf(stderr, "sluice: %v\n", err)
	return exitFailed
}

// helpHint names the command that explains the one that was typed.
func helpHint(err error) string {
	var pe *kong.ParseError
	if !errors.As(err, &pe) || pe.Context == nil {
		return `Run "sluice --help" for the usage.`
	}
	words := []string{"sluice"}
	for word := range strings.FieldsSeq(pe.Context.Command()) {
		if !strings.HasPrefix(word, "<") { // an argument's name
			words = append(words, word)
		}
	}
	return `Run "` + strings.Join(words, " ") + ` --help" for the usage.`
}
