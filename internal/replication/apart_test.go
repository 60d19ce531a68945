package replication

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestApart(t *testing.T) {
	failed := errors.New("failed")
	if v, err := Apart(func() (int, error) { return 7, failed }); v != 7 || !errors.Is(err, failed) {
		t.Errorf("got %d, %v", v, err)
	}
	if _, err := Apart(func() (int, error) { runtime.Goexit(); return 0, nil }); err == nil {
		t.Error("a goroutine that has exited has done its work")
	}
	defer func() {
		if v, _ := recover().(string); !strings.HasPrefix(v, "no such timeline\n") || !strings.Contains(v, "TestApart") {
			t.Errorf("the caller panics with %q", v)
		}
	}()
	_, _ = Apart(func() (int, error) { panic("no such timeline") })
	t.Error("the panic is lost")
}
