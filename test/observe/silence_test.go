package observe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// freeze stops every process of a server, as a machine that hangs does: connections stay, and nobody answers.
func freeze(s *pgserver.Server) error { return signalAll(s, syscall.SIGSTOP) }

// thaw lets them go on.
func thaw(s *pgserver.Server) error { return signalAll(s, syscall.SIGCONT) }

func signalAll(s *pgserver.Server, sig syscall.Signal) error {
	b, err := os.ReadFile(filepath.Join(s.Dir(), "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("postmaster.pid: %w", err)
	}
	// The postmaster first: once it is stopped, it starts no more of them.
	if err := syscall.Kill(postmaster, sig); err != nil {
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}
