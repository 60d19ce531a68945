package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// TestSpoolGivesBackWhatItWasGiven, in writes of any length, in memory and beyond.
func TestSpoolGivesBackWhatItWasGiven(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, spoolPiece - 1, spoolPiece, 3*spoolPiece + 5, spoolMemory + 1} {
		want := make([]byte, size)
		_, _ = random.Read(want)
		s := &spool{}
		for rest, n := want, 1; len(rest) > 0; n = n*7%300_007 + 1 {
			n = min(n, len(rest))
			if got, err := s.Write(rest[:n]); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		if got, err := io.ReadAll(s.reader()); !bytes.Equal(got, want) || err != nil {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
		if (s.file != nil) != (size > spoolMemory) {
			t.Errorf("%d bytes: in a file %t", size, s.file != nil)
		}
		if size < spoolPiece-1 { // it reads byte by byte
			if err := iotest.TestReader(s.reader(), want); err != nil {
				t.Error(err)
			}
		}
		if n, err := s.ReadAt(make([]byte, 2), int64(max(size-1, 0))); n != min(size, 1) || !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, beyond the end: %d, %v", size, n, err)
		}
		late := s.reader()
		if errors.Join(s.Close(), s.Close()) != nil || s.size != 0 {
			t.Error("it is not closed")
		}
		if got, err := io.ReadAll(late); size <= spoolMemory && (!bytes.Equal(got, want) || err != nil) {
			t.Errorf("%d bytes, read after the end: %d, %v", size, len(got), err)
		}
	}
}
