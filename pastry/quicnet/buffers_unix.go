//go:build unix

package quicnet

import (
	"syscall"

	"go.uber.org/zap"
)

// bufferWanted is the size of the UDP socket's buffers that quic-go asks for, in bytes: less loses packets at full speed.
const bufferWanted = 7 << 20

// logBuffers says so once where the kernel gave less.
func (t *Transport) logBuffers() {
	raw, err := t.udp.SyscallConn()
	if err != nil {
		return
	}
	var receive, send int
	raw.Control(func(fd uintptr) {
		receive, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
		send, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	})
	if receive < bufferWanted || send < bufferWanted {
		t.log.Info("small UDP buffers; raise net.core.rmem_max and net.core.wmem_max to 7500000 for full speed",
			zap.Int("receiveBytes", receive), zap.Int("sendBytes", send))
	}
}
