//go:build unix

package quicnet

import (
	"errors"
	"net"
	"syscall"
)

// quiet says whether conn is open and has nothing to read, as an idle connection should be.
func quiet(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	var b [1]byte
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		_, readErr = syscall.Read(int(fd), b[:])
		return true // do not wait
	})
	return err == nil && errors.Is(readErr, syscall.EAGAIN)
}
