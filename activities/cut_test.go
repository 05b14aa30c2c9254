package activities_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cut is a way to the database that can be cut.
type cut struct {
	url string
	to  string

	mu    sync.Mutex
	gone  bool
	conns []net.Conn
}

func newCut(t *testing.T, address string) *cut {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	c := &cut{to: u.Host}
	u.Host = listener.Addr().String()
	c.url = u.String()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(conn)
		}
	}()
	t.Cleanup(c.cut)
	return c
}

func (c *cut) pass(from net.Conn) {
	to, err := net.Dial("tcp", c.to)
	c.mu.Lock()
	if err != nil || c.gone {
		c.mu.Unlock()
		_ = from.Close()
		if err == nil {
			_ = to.Close()
		}
		return
	}
	c.conns = append(c.conns, from, to)
	c.mu.Unlock()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
	_ = from.Close()
}

// cut breaks every connection and refuses new ones.
func (c *cut) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cut) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = false
}
