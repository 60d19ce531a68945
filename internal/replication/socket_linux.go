package replication

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketWait is how long a read or a write of a socket blocks at most. So long a cancellation may have to wait.
const socketWait = 50 * time.Millisecond

// socket is a connection outside of the runtime's poller: reads and writes block their thread, in the kernel. What arrives then
// wakes that thread and no other, which is a context switch less, and several microseconds, each time. It has one owner, and
// one who writes; see voice.
type socket struct {
	fd    int
	iovec [maxParts]unix.Iovec
}

// detachable says whether a connection can become a socket.
func detachable(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// detach makes a socket of a connection, and closes that; after an error it is as it was.
func detach(conn net.Conn) (*socket, error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	s := &socket{fd: fd}
	if err := s.block(); err != nil {
		// Whatever of it was done, the poller's way of reading works as before with the first of these undone.
		return nil, errors.Join(err, unix.SetNonblock(fd, true), unix.Close(fd))
	}
	_ = conn.Close() // the descriptor is one of two
	return s, nil
}

// block makes reads and writes wait in the kernel, for a while.
func (s *socket) block() error {
	wait := unix.NsecToTimeval(socketWait.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, option, &wait); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(s.fd, false))
}

// attach makes a connection of it again, and closes the socket whatever happens.
func (s *socket) attach() (net.Conn, error) {
	f := os.NewFile(uintptr(s.fd), "socket")
	defer f.Close()
	conn, err := net.FileConn(f) // which makes a duplicate, and that non-blocking
	if err != nil {
		return nil, fmt.Errorf("give the socket back to the poller: %w", err)
	}
	return conn, nil
}

// read fills the parts with what is there, one after the other, and waits for a moment if there is nothing. Then the error is
// os.ErrDeadlineExceeded.
func (s *socket) read(parts [][]byte) (int, error) {
	for i, p := range parts {
		s.iovec[i].Base = &p[0]
		s.iovec[i].SetLen(len(p))
	}
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(s.fd), uintptr(unsafe.Pointer(&s.iovec)), uintptr(len(parts)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, socketError("readv", errno)
		case n == 0:
			return 0, errClosed
		}
		return int(n), nil
	}
}

// write writes what it can.
func (s *socket) write(p []byte) (int, error) {
	n, err := unix.Write(s.fd, p)
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, socketError("write", err)
	}
	return n, nil
}

func socketError(call string, err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return os.ErrDeadlineExceeded
	}
	return os.NewSyscallError(call, err)
}

func (s *socket) close() { _ = unix.Close(s.fd) }
