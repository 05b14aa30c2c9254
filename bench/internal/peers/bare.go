// Package peers are the proxies that Refit's gateway is compared with, each with its documented fast settings: the
// standard library's reverse proxy, nginx, and the core of Bifrost behind a small server.
package peers

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// buffers are reused by the reverse proxy, as its documentation advises.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte  { return *b.Pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.Pool.Put(&p) }

// ServeBare is the standard library's reverse proxy before one server, with a transport that keeps enough
// connections and compresses nothing. FlushInterval stays 0: event streams are flushed at once anyway, and -1 would
// flush small answers needlessly.
func ServeBare(listener net.Listener, model string) error {
	target := &url.URL{Scheme: "http", Host: model}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		},
		BufferPool: &buffers{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}},
	}
	return (&http.Server{Handler: proxy}).Serve(listener)
}
