//go:build !linux

package replication

import (
	"errors"
	"net"
)

// socket is not there: the runtime's poller does all reading.
type socket struct{}

func detachable(net.Conn) bool             { return false }
func detach(net.Conn) (*socket, error)     { return nil, errors.ErrUnsupported }
func (*socket) attach() (net.Conn, error)  { return nil, errors.ErrUnsupported }
func (*socket) read([][]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*socket) write([]byte) (int, error)  { return 0, errors.ErrUnsupported }
func (*socket) close()                     {}
