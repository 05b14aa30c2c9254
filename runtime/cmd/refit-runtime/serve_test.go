package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/embedder"
	"github.com/refitml/refit/runtime/internal/godocs"
	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/llama"
	"github.com/refitml/refit/runtime/text"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// folders makes a model folder and an embedder folder, both tiny.
func folders(t *testing.T) (model, embeds string) {
	t.Helper()
	dir := t.TempDir()
	tokenizer, err := bpe.Learn(slices.Values([]string{"a file is read and closed and read"}), 260)
	require.NoError(t, err)
	c := llama.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", VocabSize: tokenizer.Size(), HiddenSize: 8, IntermediateSize: 8,
		Layers: 1, Heads: 2, KVHeads: 1, Context: 16, NormEpsilon: 1e-5, RopeTheta: 10000, Activation: "silu", TieEmbeddings: true, DType: "float32",
	}
	var weights [][]float32
	for _, s := range c.Shapes() {
		size := 1
		for _, d := range s.Dims {
			size *= d
		}
		weights = append(weights, make([]float32, size))
	}
	model = filepath.Join(dir, "model")
	require.NoError(t, os.Mkdir(model, 0o755))
	require.NoError(t, llama.Write(model, c, weights))
	require.NoError(t, tokenizer.WriteFile(filepath.Join(model, bpe.File)))

	j := job.Job{
		Spec: filepath.Join(dir, "spec.json"), Inputs: filepath.Join(dir, "inputs"), Outputs: filepath.Join(dir, "outputs"),
		Checkpoints: filepath.Join(dir, "checkpoints"), Progress: filepath.Join(dir, "progress"),
	}
	require.NoError(t, os.WriteFile(j.Spec, []byte(`{"parameters":{"dimension":8,"epochs":1}}`), 0o600))
	require.NoError(t, godocs.Write(filepath.Join(j.Inputs, "dataset"), []text.Document{{ID: "a", Title: "x", Text: "It reads a file. Then it is closed again by whoever opened it."}}))
	require.NoError(t, embedder.Run(t.Context(), j, quiet))
	return model, filepath.Join(j.Outputs, "embedder")
}

func TestServesUntilItIsToldToStop(t *testing.T) {
	t.Parallel()
	model, embeds := folders(t)
	dir := t.TempDir()
	s := serving{
		models: []string{"m=" + model, "m2=" + model}, embedders: []string{"e=" + embeds}, listen: "127.0.0.1:0",
		address: filepath.Join(dir, "address"), accessFile: filepath.Join(dir, "access.jsonl"), drain: time.Minute,
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, quiet) }()
	var address []byte
	require.Eventually(t, func() bool {
		var err error
		address, err = os.ReadFile(s.address)
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	require.True(t, strings.HasSuffix(string(address), "\n"), "it appears whole")
	url := "http://" + strings.TrimSpace(string(address))

	response, err := http.Get(url + "/v1/models")
	require.NoError(t, err)
	var list struct{ Data []struct{ ID string } }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&list))
	require.NoError(t, response.Body.Close())
	require.Len(t, list.Data, 3)
	for path, body := range map[string]string{
		"/v1/completions": `{"model":"m2","prompt":"a file","max_tokens":2}`, "/v1/embeddings": `{"model":"e","input":"a file"}`,
	} {
		response, err := http.Post(url+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
	stop()
	require.NoError(t, <-ended)
	log, err := os.ReadFile(s.accessFile)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(log), "\n"))
}

func TestWhatCannotBeServedIsSaid(t *testing.T) {
	t.Parallel()
	model, embeds := folders(t)
	for want, s := range map[string]serving{
		"give NAME=DIR":       {models: []string{model}},
		"is given twice":      {models: []string{"m=" + model}, embedders: []string{"m=" + embeds}},
		"read the model's":    {models: []string{"m=" + embeds}},
		"read the embedder":   {embedders: []string{"e=" + model}},
		"listen":              {models: []string{"m=" + model}, listen: "127.0.0.1:99999"},
		"open the access log": {models: []string{"m=" + model}, accessFile: t.TempDir()},
		"the address file":    {models: []string{"m=" + model}, listen: "127.0.0.1:0", address: filepath.Join(t.TempDir(), "none", "address")},
	} {
		require.ErrorContains(t, s.run(t.Context(), quiet), want)
	}
}

// Wrong flags are 2, what fails is 1.
func TestExitCodesOfServe(t *testing.T) {
	t.Parallel()
	for want, arguments := range map[int][]string{0: {}, 1: {"--model", "m=" + t.TempDir()}} {
		code := 0
		cmd := newServe(quiet, &code)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(arguments)
		require.Error(t, cmd.ExecuteContext(t.Context()))
		require.Equal(t, want, code, "main turns an error with code 0 into 2")
	}
}
