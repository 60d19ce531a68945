package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// TestSIGTERMUnderLoadStopsInOrder (X1): commits go on, and a client that never reads has asked for a segment. The stages end in
// their order, every gate closes, the status is 0; and after the next start the commits that waited go on.
func TestSIGTERMUnderLoadStopsInOrder(t *testing.T) {
	b := newBench(t)
	b.do(b.primary.Exec(b.ctx, "INSERT INTO ledger SELECT n, repeat('x', 500) FROM generate_series(1, 4000) AS n"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.node.URL(), "http://"))
	b.do(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /v1/tenants/acme/timelines/main/wal/000000010000000000000002 HTTP/1.1\r\nHost: x\r\n\r\n")
	b.do(err)
	loadCtx, stopLoad := context.WithCancel(b.ctx)
	committed, ended := make(chan int, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 10_000; n < 11_000; n++ {
			if err := b.primary.Exec(loadCtx, fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'under load')", n)); err != nil {
				return
			}
			committed <- n
		}
	}()
	<-committed
	stopping, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	began := time.Now()
	b.do(b.node.Stop(stopping))                           // an exit status but 0 is an error
	if took := time.Since(began); took > 20*time.Second { // the client that never reads would cost more
		t.Errorf("the shutdown took %v", took)
	}
	log, err := os.ReadFile(b.node.LogFile())
	b.do(err)
	rest := string(log)
	for _, stage := range []string{"readiness", "broker", "drain", "tenants", "broker_connection", "http", "telemetry"} {
		var found bool
		if _, rest, found = strings.Cut(rest, `"msg":"shutdown stage ended","stage":"`+stage+`"`); !found {
			t.Errorf("stage %s did not end in its order", stage)
		}
	}
	if regexp.MustCompile(`gate not closed in time|shutdown stage (is late|failed)`).Match(log) {
		t.Errorf("something was late: %s", rig.Tail(b.node.LogFile(), 20))
	}
	for len(committed) > 0 { // before the node went
		<-committed
	}
	b.do(b.node.Start(b.ctx))
	last := 0
	for deadline := time.After(patience); last == 0; {
		select {
		case last = <-committed:
		case <-deadline:
			t.Fatal("no commit goes on after the start")
		}
	}
	stopLoad()
	<-ended
}
