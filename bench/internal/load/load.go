// Package load asks a proxy as many clients would: as fast as answers come (Saturate), at a fixed rate whatever comes
// back (AtRate), or with streams that are held open (Hold).
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Target is where to ask, and what.
type Target struct {
	Address string // host:port
	Header  map[string]string
	Bodies  [][]byte // asked in turn, so that conversations differ
	Streams bool
}

// Count is what came back.
type Count struct {
	Answers int64
	Events  int64 // of streams
	Faults  int64
	Fault   string // the first one
}

type client struct {
	target                  Target
	http                    *fasthttp.HostClient
	next                    atomic.Int64
	answers, events, faults atomic.Int64
	once                    sync.Once
	fault                   string
}

func newClient(t Target, connections int) *client {
	return &client{target: t, http: &fasthttp.HostClient{
		Addr: t.Address, MaxConns: connections + 8, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		NoDefaultUserAgentHeader: true, StreamResponseBody: t.Streams, MaxResponseBodySize: 64 << 20,
		RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}}
}

var eventEnd = []byte("\n\n")

// fill makes the next request.
func (c *client) fill(request *fasthttp.Request) {
	request.Header.SetMethod("POST")
	request.SetRequestURI("http://" + c.target.Address + "/v1/chat/completions")
	request.Header.SetContentType("application/json")
	for name, value := range c.target.Header {
		request.Header.Set(name, value)
	}
	request.SetBodyRaw(c.target.Bodies[int(c.next.Add(1))%len(c.target.Bodies)])
}

// done counts how a request ended.
func (c *client) done(err error) {
	if err != nil {
		c.faults.Add(1)
		c.once.Do(func() { c.fault = err.Error() })
		return
	}
	c.answers.Add(1)
}

// ask sends one request and reads its answer to the end.
func (c *client) ask(buffer []byte) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	c.fill(request)
	events, err := c.read(request, response, buffer)
	c.events.Add(events)
	c.done(err)
}

func (c *client) read(request *fasthttp.Request, response *fasthttp.Response, buffer []byte) (events int64, err error) {
	if err := c.http.Do(request, response); err != nil {
		return 0, err
	}
	if status := response.StatusCode(); status != fasthttp.StatusOK {
		return 0, fmt.Errorf("status %d: %.200s", status, response.Body())
	}
	if !c.target.Streams {
		if len(response.Body()) == 0 {
			return 0, errors.New("an empty answer")
		}
		return 0, nil
	}
	defer func() { err = errors.Join(err, response.CloseBodyStream()) }()
	for body := response.BodyStream(); ; {
		n, err := body.Read(buffer)
		events += int64(bytes.Count(buffer[:n], eventEnd))
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
	}
}

func (c *client) count() Count {
	return Count{Answers: c.answers.Load(), Events: c.events.Load(), Faults: c.faults.Load(), Fault: c.fault}
}

// Saturate asks over so many connections for as long as ctx lives; a new question follows each answer at once.
func Saturate(ctx context.Context, t Target, connections int) Count {
	c := newClient(t, connections)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			buffer := make([]byte, 16<<10)
			for ctx.Err() == nil {
				c.ask(buffer)
			}
		})
	}
	wg.Wait()
	c.http.CloseIdleConnections()
	return c.count()
}

// AtRate asks so many times a second, whatever comes back, and gives how long each answer took from the moment at which
// it was due: a slow answer does not hide the wait of those behind it.
func AtRate(ctx context.Context, t Target, connections int, perSecond float64) ([]time.Duration, Count) {
	c := newClient(t, connections)
	due := make(chan time.Time, 1<<16)
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			buffer := make([]byte, 16<<10)
			var own []time.Duration
			for at := range due {
				c.ask(buffer)
				own = append(own, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	gap := time.Duration(float64(time.Second) / perSecond)
	for at := time.Now(); ctx.Err() == nil; at = at.Add(gap) {
		time.Sleep(time.Until(at))
		due <- at
	}
	close(due)
	wg.Wait()
	c.http.CloseIdleConnections()
	return took, c.count()
}

// Hold opens so many streams at once and calls held when each has brought its first event; it returns when all ended.
func Hold(t Target, streams int, held func()) Count {
	c := newClient(t, streams)
	var begun, wg sync.WaitGroup
	begun.Add(streams)
	for range streams {
		wg.Go(func() {
			first := sync.OnceFunc(begun.Done)
			defer first()
			c.hold(first)
		})
	}
	begun.Wait()
	held()
	wg.Wait()
	c.http.CloseIdleConnections()
	return c.count()
}

func (c *client) hold(first func()) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	c.fill(request)
	err := c.http.Do(request, response)
	if err == nil && response.StatusCode() != fasthttp.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode())
	}
	if err == nil {
		_, err = response.BodyStream().Read(make([]byte, 512))
		first()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, response.BodyStream())
	}
	if err == nil {
		_ = response.CloseBodyStream() // it was read to its end
	}
	c.done(err)
}
