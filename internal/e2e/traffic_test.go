package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pace is the least time between two requests of one client.
const pace = 25 * time.Millisecond

// traffic is several clients that hold conversations with a service: heavy-tailed, some streaming, some cancelled,
// some without a conversation key.
type traffic struct {
	service  string
	gateways []string
	http     *http.Client

	cancel context.CancelFunc
	wait   sync.WaitGroup
	sent   atomic.Int64
	ok     atomic.Int64 // whole answers

	mu        sync.Mutex
	exchanges []exchange
}

// exchange is one request as the client saw it. Without an answer only the error is set.
type exchange struct {
	gateway              string // address
	interaction, release string
	status               int
	left                 bool // the client cancelled it
	err                  error
	began, at            time.Time // at is its end
}

func startTraffic(t *testing.T, service string, clients int, gateways ...string) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	tr := &traffic{service: service, gateways: gateways, cancel: cancel, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: clients},
	}}
	for i := range clients {
		tr.wait.Go(func() { tr.client(ctx, rand.New(rand.NewPCG(uint64(i), 7))) })
	}
	t.Cleanup(func() { tr.stop() })
	return tr
}

// stop lets the requests in flight end and gives all exchanges.
func (tr *traffic) stop() []exchange {
	tr.cancel()
	tr.wait.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]exchange(nil), tr.exchanges...)
}

// awaitMore waits until so many more whole answers have come.
func (tr *traffic) awaitMore(t *testing.T, n int64) {
	t.Helper()
	until := tr.ok.Load() + n
	await(t, fmt.Sprintf("%d more answers", n), func() (bool, any) { return tr.ok.Load() >= until, tr.last() })
}

func (tr *traffic) last() any {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.exchanges) == 0 {
		return "no exchange yet"
	}
	return tr.exchanges[len(tr.exchanges)-1]
}

func (tr *traffic) client(ctx context.Context, random *rand.Rand) {
	paced := time.NewTicker(pace)
	defer paced.Stop()
	for ctx.Err() == nil {
		tr.converse(ctx, random, paced.C)
	}
}

// converse holds one conversation. Its length is Pareto's: most have a turn or two, a few have dozens.
func (tr *traffic) converse(ctx context.Context, random *rand.Rand, paced <-chan time.Time) {
	turns := min(40, int(math.Ceil(math.Pow(random.Float64()+1e-9, -1/1.3))))
	keyed := random.Float64() < 0.8
	messages := []map[string]string{{"role": "user", "content": fmt.Sprintf("What is %d?", random.Uint64())}}
	key := ""
	for range turns {
		select {
		case <-paced:
		case <-ctx.Done():
			return
		}
		e, next := tr.ask(random, messages, key)
		tr.mu.Lock()
		tr.exchanges = append(tr.exchanges, e)
		tr.mu.Unlock()
		if e.err != nil || e.status != http.StatusOK || e.left {
			return
		}
		tr.ok.Add(1)
		if keyed {
			key = next
		}
		messages = append(messages, map[string]string{"role": "assistant", "content": said}, map[string]string{"role": "user", "content": "And then?"})
	}
}

// ask sends one request. It does not hang on the traffic's end: what was begun is ended.
func (tr *traffic) ask(random *rand.Rand, messages []map[string]string, key string) (exchange, string) {
	kind := random.Float64()
	streaming, leaves := kind < 0.3, kind < 0.03
	body, _ := json.Marshal(map[string]any{"model": tr.service, "messages": messages, "stream": streaming})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	gateway := tr.gateways[random.IntN(len(tr.gateways))]
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+gateway+"/v1/chat/completions", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("X-Refit-Conversation", key)
	}
	tr.sent.Add(1)
	began := time.Now()
	answer, err := tr.http.Do(request)
	if err != nil {
		return exchange{gateway: gateway, err: err, began: began, at: time.Now()}, ""
	}
	defer answer.Body.Close()
	e := exchange{
		gateway: gateway, interaction: answer.Header.Get("X-Refit-Interaction"), release: answer.Header.Get("X-Refit-Release"),
		status: answer.StatusCode, left: leaves, began: began,
	}
	if leaves {
		_, _ = answer.Body.Read(make([]byte, 1))
		cancel()
	} else {
		_, e.err = io.Copy(io.Discard, answer.Body)
	}
	e.at = time.Now()
	return e, answer.Header.Get("X-Refit-Conversation")
}

// failed lists the exchanges that did not end as the client wished.
func failed(all []exchange) []exchange {
	var bad []exchange
	for _, e := range all {
		if e.err != nil || e.status != http.StatusOK {
			bad = append(bad, e)
		}
	}
	return bad
}
