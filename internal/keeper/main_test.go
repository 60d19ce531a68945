package keeper

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The resolver makes a channel when it is used first. Were that in a test's bubble (testing/synctest), no test outside of it
	// could look a name up afterwards; the sources of many tests here are names.
	_, _ = net.DefaultResolver.LookupHost(context.Background(), "localhost") // what it answers does not matter
	goleak.VerifyTestMain(m)
}
