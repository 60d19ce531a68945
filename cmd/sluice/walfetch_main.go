package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// walFetchMain runs wal-fetch if that is what the arguments ask for, and returns the exit status; handled is false for every
// other command. It has to come before everything else in main.
//
// PostgreSQL takes each status from 1 to 125 for "the archive ends here", and promotes. A usage error, a panic, and Go's own
// fatal errors have such statuses. So the work is done in a child, whose every end but two means "could not find out":
// 126, at which recovery stops. A standby would shut down at that; it gets 1, and asks again.
func walFetchMain(args []string) (code int, handled bool) {
	args, handled = walFetchArgs(args)
	switch {
	case !handled:
		return 0, false
	case os.Getenv(childEnv) == strconv.Itoa(os.Getppid()):
		return walFetchChild(args), true
	default:
		return walFetchParent(args), true
	}
}

// childEnv tells the child that it is one: it holds the parent's process id, so that no other wal-fetch inherits it.
const childEnv = "SLUICE_WAL_FETCH_PARENT"

// The exit statuses of the child. Nothing else ends with them.
const (
	childPresent = 70 + iota
	childAbsent
	childUnknown
	childInterrupted // by a signal
)

// walFetchArgs returns the arguments with the verb first. Flags before it belong to it as well: with them, too, a wrong one
// must not end like the usage error of another command.
func walFetchArgs(args []string) ([]string, bool) {
	i := slices.Index(args, "wal-fetch")
	if i < 0 || i > 0 && !strings.HasPrefix(args[0], "-") {
		return nil, false
	}
	return slices.Concat(args[i:i+1], args[:i], args[i+1:]), true
}

// walFetchChild does the work. It ends early when the parent is told to.
func walFetchChild(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	defer stop()
	err := runWalFetch(ctx, args, os.Stdout, os.Stderr)
	var status exitStatus
	switch {
	case err == nil:
		return childPresent
	case errors.As(err, &status) && status == exitAbsent:
		return childAbsent
	case ctx.Err() != nil:
		return childInterrupted
	case !errors.As(err, &status):
		fmt.Fprintf(os.Stderr, "sluice wal-fetch: %v\n", err)
	}
	return childUnknown
}

// runWalFetch parses the arguments and runs the command. Asked for help it gives that, and no file.
func runWalFetch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var cli struct {
		WalFetch walFetchCmd `cmd:"" help:"Fetch a WAL file: a restore_command."`
	}
	helped := false
	parser, err := kong.New(&cli, kong.Name("sluice"), kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return err
	}
	k, err := parser.Parse(args)
	if helped {
		return exitStatus(exitUnknown)
	}
	if err != nil {
		return fmt.Errorf("%w (usage: sluice wal-fetch [flags] TENANT/TIMELINE %%f %%p)", err)
	}
	return k.Run()
}

// endSignals end wal-fetch. PostgreSQL sends SIGTERM when it is shut down, to its whole process group. A signal that is ignored
// already (nohup) stays so: nobody can end by it.
func endSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, signal.Ignored)
}

// walFetchParent runs the child and judges its end. It does as little as it can: what goes wrong here cannot be judged.
func walFetchParent(args []string) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, append(endSignals(), syscall.SIGQUIT)...) // SIGQUIT: Go's answer would be status 2
	cmd, err := startChild(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sluice wal-fetch: cannot start a process: %v\n", err)
		return couldNotFindOut()
	}
	sig := waitForChild(cmd, signals)
	switch status := cmd.ProcessState.ExitCode(); {
	case sig != nil:
		return endBySignal(sig)
	case status == childPresent:
		return 0
	case status == childAbsent:
		return exitAbsent
	case status != childUnknown && status != childInterrupted:
		fmt.Fprintf(os.Stderr, "sluice wal-fetch: it ended unexpectedly: %v\n", cmd.ProcessState)
	}
	return couldNotFindOut()
}

// couldNotFindOut is the exit status for it.
func couldNotFindOut() int {
	if inStandby() {
		return exitAbsent
	}
	return exitUnknown
}

// startChild runs this program again. The thread is kept: the child's death signal comes when the thread ends that started it.
func startChild(args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	cmd := exec.CommandContext(context.Background(), self, args...) // it ends when it is told to, and cleans up
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(os.Getpid()))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd, cmd.Start()
}

// childGrace is how long the child may take to end after a signal; then it is killed. It takes a file away that is not complete.
const childGrace = 5 * time.Second

// signalDelay is how much later than the child's end our own signal may be seen, where a whole process group got it.
const signalDelay = 200 * time.Millisecond

// waitForChild returns when the child has ended, with the signal that we got, if any.
func waitForChild(cmd *exec.Cmd, signals <-chan os.Signal) os.Signal {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // judged by its state
		close(ended)
	}()
	select {
	case <-ended:
		return lateSignal(cmd, signals)
	case sig := <-signals:
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
		case <-time.After(childGrace):
			_ = cmd.Process.Kill() // likewise
			<-ended
		}
		return sig
	}
}

// lateSignal returns the signal that ended the child, if we got it, too.
func lateSignal(cmd *exec.Cmd, signals <-chan os.Signal) os.Signal {
	if status := cmd.ProcessState.ExitCode(); status != childInterrupted && status != -1 {
		return nil
	}
	select {
	case sig := <-signals:
		return sig
	case <-time.After(signalDelay):
		return nil
	}
}

// endBySignal ends this process by a signal, as PostgreSQL wants it of a restore_command that is told to stop: it tells that from
// a failure.
func endBySignal(sig os.Signal) int {
	if sig == syscall.SIGQUIT {
		return couldNotFindOut()
	}
	number, _ := sig.(syscall.Signal)
	signal.Reset(sig)
	if err := syscall.Kill(os.Getpid(), number); err == nil {
		<-time.After(time.Second) // it is on its way
	}
	return couldNotFindOut()
}
