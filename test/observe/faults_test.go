package observe

import (
	"bytes"
	"os"
	"testing"

	"github.com/sluicewal/sluice/test/rig"
)

// TestFaultsAreInTheBinary: the words by which the released one is known to have none.
func TestFaultsAreInTheBinary(t *testing.T) {
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range rig.FaultWords {
		if !bytes.Contains(binary, []byte(word)) {
			t.Errorf("the binary with faults does not have %q", word)
		}
	}
}
