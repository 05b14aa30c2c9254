// Package modelserver is a fast model server that does no thinking: it answers chats with fixed bytes, at once or as a
// paced stream, so that a benchmark sees the proxy before it and not the model behind it.
package modelserver

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// mark begins what a user text says of the stream that it asks for: Refit passes no header on that it
// does not know, so what a client wants travels in the body, as `stream:CHUNKS:PACE`.
const mark = "stream:"

const small = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,` +
	`"message":{"role":"assistant","content":"Package bytes implements functions for the manipulation of byte slices. ` +
	`It is analogous to the facilities of the strings package."},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":42,"completion_tokens":25,"total_tokens":67}}`

// Serve answers on the listener until it is closed.
func Serve(listener net.Listener) error {
	server := &fasthttp.Server{Handler: handle, NoDefaultServerHeader: true, MaxRequestBodySize: 16 << 20, TCPKeepalive: true}
	return server.Serve(listener)
}

func handle(ctx *fasthttp.RequestCtx) {
	if !ctx.IsPost() {
		ctx.SetContentType("application/json")
		ctx.SetBodyString(`{"object":"list","data":[]}`)
		return
	}
	if string(ctx.Path()) == "/v1/traces" {
		return // it takes spans, too
	}
	chunks, pace, streamed := shape(ctx.PostBody())
	if !streamed {
		ctx.SetContentType("application/json")
		ctx.SetBodyString(small)
		return
	}
	ctx.SetContentType("text/event-stream")
	done := ctx.Done()
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) { stream(w, chunks, pace, done) })
}

// shape reads what a request asks for.
func shape(body []byte) (chunks int, pace time.Duration, streamed bool) {
	at := bytes.Index(body, []byte(mark))
	if at < 0 {
		return 0, 0, false
	}
	rest := body[at+len(mark):]
	fields := bytes.FieldsFunc(rest[:min(len(rest), 40)], func(r rune) bool { return r == ':' || r == ' ' })
	if len(fields) < 2 {
		return 0, 0, false
	}
	chunks, err := strconv.Atoi(string(fields[0]))
	if err != nil {
		return 0, 0, false
	}
	pace, err = time.ParseDuration(string(fields[1]))
	return chunks, pace, err == nil
}

// Ask is the user text that asks for a stream of so many chunks at that pace.
func Ask(chunks int, pace time.Duration) string { return fmt.Sprintf("%s%d:%s ", mark, chunks, pace) }

const (
	chunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,` +
		`"delta":{"content":" token"},"finish_reason":null}]}` + "\n\n"
	last = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,` +
		`"delta":{},"finish_reason":"stop"}]}` + "\n\n" +
		`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[],` +
		`"usage":{"prompt_tokens":42,"completion_tokens":200,"total_tokens":242}}` + "\n\ndata: [DONE]\n\n"
)

// stream writes a chunk at each beat, so that a late beat is made up for and the pace holds on average.
func stream(w *bufio.Writer, chunks int, pace time.Duration, done <-chan struct{}) {
	ticker := time.NewTicker(max(pace, time.Microsecond))
	defer ticker.Stop()
	for range chunks {
		if _, err := w.WriteString(chunk); err != nil {
			return
		}
		if err := w.Flush(); err != nil {
			return
		}
		if pace == 0 {
			continue
		}
		select {
		case <-ticker.C:
		case <-done:
			return
		}
	}
	if _, err := w.WriteString(last); err == nil {
		_ = w.Flush() // a client that left is no fault of the server's
	}
}
