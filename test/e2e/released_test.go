package e2e

import (
	"bytes"
	"os"
	"testing"

	"github.com/sluicewal/sluice/test/rig"
)

// TestReleasedBinaryHasNoFaults: neither what switches them on nor their code. test/observe looks for the same words where they
// have to be.
func TestReleasedBinaryHasNoFaults(t *testing.T) {
	t.Parallel()
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range rig.FaultWords {
		if bytes.Contains(binary, []byte(word)) {
			t.Errorf("the binary has %q", word)
		}
	}
}
