package observe

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/test/rig"
)

var (
	observe = flag.Bool("observe", false, "inject every fault, and wait for every alert: a quarter of an hour")
	only    = flag.String("only", "", "of the faults those whose title matches")
	keep    = flag.Bool("keep", os.Getenv("OBSERVE_KEEP") != "", "leave everything running at the end, until Ctrl-C")
	calm    = flag.Duration("calm", 0, "how long load alone, with a rolling restart in it, must fire no alert; 0: TestNothingFiresWithoutFaults is skipped")
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) } //nolint:forbidigo // it is this program's main

func testMain(m *testing.M) int {
	flag.Parse()
	path, cleanup, err := rig.BuildTagged(context.Background(), "faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cleanup()
	program = path
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
