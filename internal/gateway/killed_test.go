package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/registry/registrytest"
)

// envSpool makes TestGatewayProcess a gateway that captures into this folder.
const envSpool = "REFIT_TEST_GATEWAY_SPOOL"

// TestGatewayProcess is no test: it is the process that TestAKillLosesNothingThatAClientSaw kills.
func TestGatewayProcess(t *testing.T) {
	dir := os.Getenv(envSpool)
	if dir == "" {
		t.Skip("only as another test's process")
	}
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: dir, Segment: 32 << 10, Wait: time.Minute, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	w := newWorld(t, func(c *Config) { c.Capture = spool })
	w.upstream.behave(answersInPieces)
	w.store.change(func(s *store) { s.service.Capture.Content = "full" })
	require.Eventually(t, func() bool { // the declaration is followed
		l := w.gateway.lane("docs")
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.keeps != nil
	}, 10*time.Second, time.Millisecond)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fmt.Println("listens on", listener.Addr())
	_ = http.Serve(listener, w.handler) // until it is killed
}

// answersInPieces streams where a stream is asked for, and refuses and breaks off now and then.
func answersInPieces(w http.ResponseWriter, r *http.Request, _ string) bool {
	switch rand.IntN(20) {
	case 0:
		w.WriteHeader(http.StatusInternalServerError)
		return true
	case 1:
		panic(http.ErrAbortHandler)
	}
	if r.Header.Get("X-Request-Id") != "stream" {
		return false
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for n := range 3 {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"piece %d \"}}]}\n\n", n)
		_ = http.NewResponseController(w).Flush()
	}
	fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	return true
}

// complete asks once and gives the interaction of an answer that the client saw to its end, "" else.
func complete(ctx context.Context, client *http.Client, address, words string, stream bool) string {
	body := strings.Replace(chat(words, 0), "{", fmt.Sprintf(`{"stream":%t,`, stream), 1)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+chatPath, strings.NewReader(body))
	if err != nil {
		return ""
	}
	if stream {
		r.Header.Set("X-Request-Id", "stream")
	}
	response, err := client.Do(r)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	if stream && response.StatusCode == http.StatusOK {
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if lines.Text() == "data: [DONE]" { // for a client the answer is complete here
				return response.Header.Get(headerInteraction)
			}
		}
		return ""
	}
	raw, err := io.ReadAll(response.Body)
	if err != nil || !json.Valid(raw) {
		return ""
	}
	return response.Header.Get(headerInteraction)
}

// The gateway is killed at random moments, again and again on one spool, while clients write down whose answers
// they saw complete. Afterwards all of them are in the database, once.
func TestAKillLosesNothingThatAClientSaw(t *testing.T) {
	t.Parallel()
	database := registrytest.New(t)
	dir, rounds := t.TempDir(), 6
	if os.Getenv("REFIT_LONG") != "" {
		rounds = 100
	}
	seen := map[string]bool{}
	var mu sync.Mutex
	for round := range rounds {
		process := exec.Command(os.Args[0], "-test.run=^TestGatewayProcess$", "-test.v")
		process.Env = append(os.Environ(), envSpool+"="+dir)
		out, err := process.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, process.Start())
		address := ""
		lines := bufio.NewScanner(out)
		for address == "" && lines.Scan() {
			_, address, _ = strings.Cut(lines.Text(), "listens on ")
		}
		require.NotEmpty(t, address)

		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		enough := make(chan struct{})
		var once sync.Once
		after := 20 + rand.IntN(150) // answers
		for client := range 8 {
			clients.Go(func() {
				http := &http.Client{Transport: &http.Transport{}}
				defer http.CloseIdleConnections()
				for n := 0; ctx.Err() == nil; n++ {
					id := complete(ctx, http, address, fmt.Sprintf("round %d client %d question %d", round, client, n), n%2 == 1)
					mu.Lock()
					if id != "" {
						seen[id] = true
						after--
					}
					if after <= 0 {
						once.Do(func() { close(enough) })
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		require.NoError(t, process.Process.Signal(syscall.SIGKILL))
		_ = process.Wait() // it was killed
		stop()
		clients.Wait()
	}

	store, err := capture.Open(t.Context(), capture.Config{URL: database.AppURL})
	require.NoError(t, err)
	defer store.Close()
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, spool.Close())
	require.NoError(t, capture.NewLoader(spool, store, capture.LoaderConfig{Batch: 100, Log: slog.New(slog.DiscardHandler)}).Run(t.Context()))

	connection, err := pgx.Connect(t.Context(), database.AppURL)
	require.NoError(t, err)
	defer func() { _ = connection.Close(context.Background()) }()
	rows, err := connection.Query(t.Context(), `SELECT id, outcome, output, input FROM interactions`)
	require.NoError(t, err)
	stored := map[string]int{}
	var id, outcome, output, input string
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome, &output, &input}, func() error {
		stored[id]++
		if seen[id] && outcome == "ok" && (output == "" || !strings.HasPrefix(input, "round ")) {
			return fmt.Errorf("interaction %s has lost its texts: %q, %q", id, input, output)
		}
		return nil
	})
	require.NoError(t, err)
	for id := range seen {
		require.Equal(t, 1, stored[id], "interaction %s, which a client saw complete", id)
	}
	require.GreaterOrEqual(t, len(seen), 20*rounds)
	t.Logf("%d rounds, %d answers seen complete, %d stored", rounds, len(seen), len(stored))
}
