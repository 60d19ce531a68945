package pgserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

// Ports are taken from [lowestPort, ephemeral). In the ephemeral range a client that
// keeps dialling a dead server on loopback can be given that very port as its
// own, and the server cannot come back.
const (
	lowestPort       = 10240
	defaultEphemeral = 32768
)

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago, below
// the ephemeral range.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(ephemeral()-lowestPort)
		if err = tryPort(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

func tryPort(port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	return l.Close()
}

// ephemeral is where the kernel's ephemeral ports begin, if that leaves room.
func ephemeral() int {
	var lo, hi int
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return defaultEphemeral
	}
	if n, _ := fmt.Sscan(string(b), &lo, &hi); n != 2 || lo <= lowestPort+1000 {
		return defaultEphemeral
	}
	return min(lo, defaultEphemeral)
}
