package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Faults of a wire.
const (
	whole    = "whole"
	mute     = "mute"      // PostgreSQL's notifications do not arrive
	halfOpen = "half-open" // the connections that listen stand, and carry nothing; new ones are whole
	cutOff   = "cut off"   // no connection stands, and none is made
	deaf     = "deaf"      // changes arrive and are made, and their answers do not come back; those connections break when it is over
)

// wire is the network between one process and PostgreSQL.
type wire struct {
	t        *testing.T
	listener net.Listener
	to       string

	mu    sync.Mutex
	fault string
	pairs map[net.Conn]*pair
}

// pair is a connection with its other half.
type pair struct {
	server  net.Conn
	listens bool // it sent LISTEN
	dead    bool
	unheard bool // an answer was lost on it

	begun      bool // a transaction is open on it, as PostgreSQL said last
	committing bool // and is to be made
}

// newWire gives a wire and the address of PostgreSQL behind it.
func newWire(t *testing.T, address string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{t: t, listener: listener, to: u.Host, fault: whole, pairs: map[net.Conn]*pair{}}
	t.Cleanup(func() {
		listener.Close()
		w.set(cutOff)
	})
	go w.accept()
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable") // the wire reads what PostgreSQL says
	u.RawQuery = query.Encode()
	return w, u.String()
}

func (w *wire) set(fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
	for client, p := range w.pairs {
		p.dead = p.dead || fault == halfOpen && p.listens
		if fault != cutOff && !(fault == whole && p.unheard) {
			continue
		}
		client.Close()
		p.server.Close()
	}
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		w.mu.Lock()
		if err != nil || w.fault == cutOff {
			client.Close()
			if err == nil {
				server.Close()
			}
			w.mu.Unlock()
			continue
		}
		p := &pair{server: server}
		w.pairs[client] = p
		w.mu.Unlock()
		go w.up(client, p)
		go w.down(client, p)
	}
}

// asks says whether what the process says may pass now. What may not is gone: nothing says so to either end.
func (w *wire) asks(p *pair) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !p.dead
}

// answers says whether what PostgreSQL says may pass now: a message of a kind. Where the process is to be deaf a
// transaction that is open goes on until it is made.
func (w *wire) answers(p *pair, kind byte, message []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.unheard = p.unheard || w.fault == deaf && (!p.begun || p.committing)
	if kind == 'Z' && len(message) == 1 { // it is ready for the next question, and says whether in a transaction
		p.begun = message[0] != 'I'
		p.committing = p.committing && p.begun
	}
	return !p.dead && !p.unheard && !(w.fault == mute && kind == 'A')
}

func (w *wire) up(client net.Conn, p *pair) {
	defer p.server.Close()
	chunk := make([]byte, 64<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(chunk[:n]), []byte("listen ")) {
			w.mu.Lock()
			p.listens = true
			w.mu.Unlock()
		}
		if bytes.Contains(bytes.ToLower(chunk[:n]), []byte("commit")) {
			w.mu.Lock()
			p.committing = true
			w.mu.Unlock()
		}
		if w.asks(p) {
			if _, err := p.server.Write(chunk[:n]); err != nil {
				return
			}
		}
	}
}

// down reads PostgreSQL's messages: a byte that names the kind, and a length.
func (w *wire) down(client net.Conn, p *pair) {
	defer func() {
		client.Close()
		w.mu.Lock()
		delete(w.pairs, client)
		w.mu.Unlock()
	}()
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(p.server, head); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(p.server, rest); err != nil {
			return
		}
		if w.answers(p, head[0], rest) {
			if _, err := client.Write(append(head, rest...)); err != nil {
				return
			}
		}
	}
}
