package answer

import (
	"net"

	"golang.org/x/sys/unix"
)

// acknowledged gives how many bytes of what was sent the other machine took in; false where the kernel cannot tell.
func acknowledged(conn *net.TCPConn) (int64, bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	if raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }) != nil || err != nil {
		return 0, false
	}
	return int64(info.Bytes_acked) - 1, info.Bytes_acked > 0 // the first one is the connection's own
}
