package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
)

// keep declares what of the texts is kept, and waits until the gateway knows it.
func (w *world) keep(policy lifecycle.CapturePolicy) {
	w.t.Helper()
	w.store.change(func(s *store) { s.service.Capture = policy })
	const probe = "jo@example.com ticket-1"
	want, err := newKeeping(policy)
	require.NoError(w.t, err)
	w.await(func() bool {
		got := w.gateway.lane("docs").texts()
		return (got == nil) == (want == nil) && (got == nil || got.sample == want.sample && got.mask(probe, 1000) == want.mask(probe, 1000))
	})
}

func TestTextsAreMaskedBeforeCaptureSeesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.keep(lifecycle.CapturePolicy{Content: "full", Redact: lifecycle.Redaction{Kinds: []string{"email", "card"}, Patterns: []string{`ticket-\d+`}}})
	id := w.ask(chatPath, chat("I am jo@example.com, card 4111 1111 1111 1111, ticket-77", 0), "").Header().Get(headerInteraction)
	i := w.captured.last(t)
	require.Equal(t, "I am [email], card [card], [redacted]", i.Input)
	require.Equal(t, "hello", i.Output)
	require.Equal(t, lifecycle.ContentFull, i.Content)
	w.judge("", map[string]string{"interaction": id, "kind": "correction", "correction": "ask jo@example.com", "reason": "for ticket-12"})
	require.Equal(t, "ask [email]", w.captured.feedback[0].Correction)
	require.Equal(t, "for [redacted]", w.captured.feedback[0].Reason)

	// What is masked must not show because a text was cut in its middle.
	bound := w.gateway.config.Path.MaxText()
	w.ask(chatPath, chat(strings.Repeat("word ", bound/5-3)+"4111 1111 1111 1111", 0), "")
	require.NotContains(t, w.captured.last(t).Input, "4111")
	require.Greater(t, len(w.captured.last(t).Input), bound-2*torn)
}

func TestASampleIsOfConversationsAndSparesNothingThatIsJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	half := 0.5
	w.keep(lifecycle.CapturePolicy{Content: "full", Sample: &half})
	w.rollout(5000)
	other := w.second()
	kept := 0
	for n := range 60 {
		words := fmt.Sprint("conversation ", n)
		w.ask(chatPath, chat(words, 0), "")
		first := w.captured.last(t)
		other.ask(chatPath, chat(words, 1), "")
		second := w.captured.last(t)
		require.Equal(t, first.Conversation, second.Conversation)
		require.Equal(t, first.Content, second.Content, "the whole conversation or none of it, at every gateway")
		switch first.Content {
		case lifecycle.ContentFull:
			kept++
			require.Equal(t, words, first.Input)
		case lifecycle.ContentSampled:
			require.Empty(t, first.Input+first.Output)
		default:
			t.Fatalf("content %q", first.Content)
		}
		require.Equal(t, "ok", first.Outcome)
		require.Equal(t, 3, first.Usage.Prompt)
		require.NotEmpty(t, first.Used.Parameters)
	}
	require.Greater(t, kept, 10)
	require.Less(t, kept, 50)
}

// locked is a log that several may write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// With metadata only, no byte of a prompt or an answer is in the spool, a log, a trace or the database, whatever
// happens to the request.
func TestMetadataOnlyKeepsNoByte(t *testing.T) {
	t.Parallel()
	const marker = "XYLOPHONE"
	database := registrytest.New(t)
	dir, log := t.TempDir(), &locked{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: dir, Log: logger})
	require.NoError(t, err)
	spans := tracetest.NewInMemoryExporter()
	w := newWorld(t, func(c *Config) {
		c.Capture, c.Log = spool, logger
		c.Traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	})
	w.keep(lifecycle.CapturePolicy{Content: "metadata"})
	w.rollout(9000)
	answers := map[string]func(http.ResponseWriter){
		"said": func(w http.ResponseWriter) {
			fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"content":"%s answers"},"finish_reason":"stop"}]}`, marker)
		},
		"refused": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"message":"your prompt %s is bad"}}`, marker)
		},
		"failed": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `panic at %s`, marker)
		},
		"no JSON":   func(w http.ResponseWriter) { fmt.Fprint(w, marker) },
		"broke off": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"streamed": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\ndata: {\"oops %s", marker, marker)
		},
	}
	asked := 0
	for name, say := range answers {
		w.upstream.behave(func(rw http.ResponseWriter, _ *http.Request, _ string) bool { say(rw); return true })
		for _, body := range []string{chat(marker+" asks "+name, 0), `{"model":"docs","stream":true,"stop":"` + marker + `","user":"` + marker + `","messages":[{"role":"user","content":"` + marker + name + `"}]}`} {
			func() {
				defer func() { _ = recover() }() // how an answer that broke off ends
				w.ask(chatPath, body, "")
			}()
			asked++
		}
	}
	w.upstream.behave(nil)
	id := w.ask(chatPath, chat(marker, 0), "").Header().Get(headerInteraction)
	asked++
	r := w.judge("", map[string]string{"interaction": id, "kind": "correction", "correction": "say " + marker, "reason": "because of " + marker})
	require.Equal(t, http.StatusAccepted, r.Code)
	require.Equal(t, http.StatusAccepted, w.judge("", map[string]string{"interaction": id, "kind": "thumbs-down", "reason": "wrong-fact"}).Code)

	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(os.DirFS(dir), path)
		require.NotContains(t, string(raw), marker, path)
		return err
	}))
	require.NotContains(t, log.String(), marker)
	require.NotEmpty(t, spans.GetSpans())
	require.NotContains(t, fmt.Sprintf("%+v", spans.GetSpans()), marker)

	store, err := capture.Open(t.Context(), capture.Config{URL: database.AppURL})
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, spool.Close())
	require.NoError(t, capture.NewLoader(spool, store, capture.LoaderConfig{Log: logger}).Run(t.Context()))
	connection, err := pgx.Connect(t.Context(), database.OwnerURL)
	require.NoError(t, err)
	defer func() { _ = connection.Close(context.Background()) }()
	rows, err := connection.Query(t.Context(), `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, table := range tables {
		var found int
		require.NoError(t, connection.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` r WHERE to_jsonb(r)::text LIKE '%'||$1||'%'`, marker).Scan(&found))
		require.Zero(t, found, table)
	}
	var stored, none, reasons int
	require.NoError(t, connection.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE content = 'none') FROM interactions`).Scan(&stored, &none))
	require.Equal(t, asked, stored, "all of it is there, but for the texts")
	require.Equal(t, asked, none)
	require.NoError(t, connection.QueryRow(t.Context(), `SELECT count(*) FROM feedback WHERE reason = 'wrong-fact'`).Scan(&reasons))
	require.Equal(t, 1, reasons, "a reason that is a code is kept")
}

func TestADeclarationThatCannotBeMeantKeepsNothing(t *testing.T) {
	t.Parallel()
	k, err := newKeeping(lifecycle.CapturePolicy{Content: "full", Redact: lifecycle.Redaction{Patterns: []string{"("}}})
	require.Error(t, err)
	require.Nil(t, k)
}
