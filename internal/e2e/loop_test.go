package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/demo"
	"github.com/refitml/refit/internal/lifecycle"
)

// The whole loop as `make demo` drives it, with less to learn: nothing in it is played.
func TestAModelGoesOnceAroundItsLife(t *testing.T) {
	t.Parallel()
	program(t, "refit-runtime")
	w := newWorld(t, onSharedStack(t))
	w.service = "docs-assistant"
	settings := w.demoSettings()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	watch := w.watchRoute()
	summary, err := demo.Run(ctx, settings)
	require.NoError(t, err)
	t.Logf("seconds by stage: %v\nrefused: %v\nscores: %+v", summary.Timings, summary.Refused.Reasons, summary.Scores)

	fates := map[string]string{}
	for _, r := range summary.Releases {
		fates[r.Name] = r.Fate
	}
	require.Equal(t, map[string]string{"base": "first stable", "forgetful": "refused", "candidate": "promoted", "mistake": "rolled back"}, fates)
	require.NotEqual(t, lifecycle.PassOutcome, summary.Refused.Verdict)
	require.NotEmpty(t, summary.Refused.Reasons)
	require.Positive(t, summary.RolledBack.Conversations)
	require.NotEmpty(t, summary.Busy.Holder)
	require.Len(t, summary.Steps, 2)
	for _, s := range summary.Steps {
		require.Positive(t, s.Conversations, "a step passed on the clock alone")
		require.NotNil(t, s.Reached, "the run itself holds it against the exposure bound, credit of the step before included")
	}
	require.Positive(t, summary.Feedback.ThumbsUp+summary.Feedback.ThumbsDown)
	require.True(t, summary.Feedback.Dataset.Valid())
	require.NotEmpty(t, summary.Scores)

	// What the summary says stands in the record, and people can read it by command.
	route := w.route()
	require.Equal(t, route.Stable, releaseOf(summary, "candidate"))
	require.Equal(t, route.Previous, releaseOf(summary, "base"))
	require.Empty(t, route.Canary)
	var ledger []lifecycle.LedgerEntry
	w.refit(&ledger, "ledger", w.service, "--limit", "10000")
	require.Equal(t, len(w.ledger()), len(ledger))
	require.NotEmpty(t, entriesOf(ledger, lifecycle.LadderOpened, lifecycle.LadderRefused))
	watch.check(t)
	w.checkRecord()
}

// demoSettings lets the demonstration run in this world.
func (w *world) demoSettings() demo.Settings {
	w.t.Helper()
	checkout, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(w.t, err)
	out := &transcript{}
	s := demo.Small(demo.Default(checkout, func(string) string { return "" }))
	s.Edit = smaller(s.Edit)
	s.Forget = json.RawMessage(`{"replay_fraction": -1, "batch": 8, "learning_rate": 0.03, "warmup": 4, "steps": 50}`)
	s.Bin, s.Data, s.StackFile, s.Out = filepath.Dir(w.binary), w.path("data"), w.stackFile(), out
	s.Gateway, s.Control = freeAddress(w.t), strings.TrimPrefix(w.controlURL, "http://")
	s.SummaryFile = w.path("demo-summary.json")
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(w.t, demo.Stop(ctx, s))
		if w.t.Failed() {
			w.t.Logf("what it said:\n%s\nlast lines of refit up:\n%s", out, tail(w.path("data", "demo", "refit-up.log"), 60))
		}
	})
	return s
}

// smaller leaves less to learn and to answer, so that the loop fits beside other tests on two cores.
func smaller(edit func(*lifecycle.Service)) func(*lifecycle.Service) {
	return func(service *lifecycle.Service) {
		edit(service)
		fresh := service.Corpora["fresh"]
		fresh.Sources = []lifecycle.Source{{Kind: "go-modules", Modules: []string{
			"go.temporal.io/sdk", "github.com/minio/minio-go/v7", "github.com/jackc/pgx/v5", "google.golang.org/grpc",
			"github.com/prometheus/client_golang", "github.com/spf13/cobra", "github.com/spf13/viper",
		}}} // not the largest: this process reads them, too, and slowly where it looks for races
		fresh.HeldOut = 0.3 // a gate needs answers from 50 packages
		service.Corpora["fresh"] = fresh
		service.Retrieval.Corpora = []string{"fresh"}
		service.Training.Base = json.RawMessage(`{"vocab_size": 1024, "layers": 2, "width": 64, "context": 128, "batch": 8, "steps": 120}`)
		service.Training.Continued = json.RawMessage(`{"batch": 8, "steps": 60, "replay_fraction": 0.3}`)
		for i := range service.Evaluation.Capabilities {
			c := &service.Evaluation.Capabilities[i]
			c.Items, c.Margin = 150, max(c.Margin, 0.15)
		}
	}
}

// stackFile writes the test's piece of the stack as if it were a whole one.
func (w *world) stackFile() string {
	w.t.Helper()
	s := w.stack
	s.Data = w.path("data")
	s.Postgres.AppURL, s.Postgres.OwnerURL, s.Postgres.RollbackURL = w.appURL, w.ownerURL, w.rollbackURL
	s.Temporal.Namespace, s.S3.Bucket = w.namespace, w.bucket
	raw, err := json.Marshal(s)
	require.NoError(w.t, err)
	file := w.path("stack.json")
	require.NoError(w.t, os.WriteFile(file, raw, 0o600))
	return file
}

func releaseOf(s demo.Summary, name string) lifecycle.Digest {
	for _, r := range s.Releases {
		if r.Name == name {
			return r.Release
		}
	}
	return ""
}

// transcript keeps what a run says.
type transcript struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.String()
}
