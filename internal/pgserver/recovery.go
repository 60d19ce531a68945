package pgserver

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// The files that ask for a recovery (PostgreSQL 12 and later, xlogrecovery.c).
const (
	recoverySignal = "recovery.signal"
	standbySignal  = "standby.signal"
)

// PrepareRestore makes a base backup in dir recover by restoreCommand, to the
// end of what that finds, and promote there. Settings (recovery_target_lsn,
// recovery_target_timeline, …) may say otherwise; nil is none.
func PrepareRestore(dir, restoreCommand string, settings map[string]string) error {
	all := map[string]string{"restore_command": restoreCommand}
	maps.Copy(all, settings)
	return prepareRecovery(dir, recoverySignal, all)
}

// PrepareStandby makes a base backup in dir a standby of the server that
// primaryConninfo names.
func PrepareStandby(dir, primaryConninfo string, settings map[string]string) error {
	all := map[string]string{"primary_conninfo": primaryConninfo}
	maps.Copy(all, settings)
	return prepareRecovery(dir, standbySignal, all)
}

// prepareRecovery adds to postgresql.auto.conf, which is read last.
func prepareRecovery(dir, signalFile string, settings map[string]string) error {
	if err := appendSettings(filepath.Join(dir, "postgresql.auto.conf"), settings); err != nil {
		return fmt.Errorf("prepare recovery: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, signalFile), nil, 0o600); err != nil {
		return fmt.Errorf("prepare recovery: %w", err)
	}
	return nil
}
