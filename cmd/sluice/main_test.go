package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain makes this test binary stand in the PATH as "sluice".
func TestMain(m *testing.M) {
	testscript.Main(checked{m}, map[string]func(){"sluice": asSluice})
}

// checked fails if goroutines are left.
type checked struct{ *testing.M }

func (c checked) Run() int {
	if err := letEverybodyRun(); err != nil {
		panic(err)
	}
	code := c.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// letEverybodyRun opens the directory in the PATH to PostgreSQL, which runs its restore_command as another user.
func letEverybodyRun() error {
	bin := filepath.SplitList(os.Getenv("PATH"))[0]
	return os.Chmod(filepath.Dir(bin), 0o755)
}

func asSluice() {
	if os.Getenv(childEnv) == strconv.Itoa(os.Getppid()) {
		misbehave(os.Getenv(misbehaveEnv))
	}
	main()
}

// misbehaveEnv makes wal-fetch's child end in a way that no code of ours asks for.
const misbehaveEnv = "SLUICE_TEST_CHILD"

func misbehave(how string) {
	switch how {
	case "panics":
		panic("a bug")
	case "fatal error":
		m := map[int]int{}
		go func() {
			for {
				m[0]++
			}
		}()
		for {
			m[0]++
		}
	case "exits 0":
		os.Exit(0)
	case "exits 1":
		os.Exit(1)
	case "is killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
