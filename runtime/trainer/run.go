package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/gomlx/compute"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/job"
	"github.com/refitml/refit/runtime/llama"
	"github.com/refitml/refit/runtime/text"
)

// reportEvery is the longest time between two lines of progress while steps are being done.
const reportEvery = time.Second

// Summary is training.json beside the model: what was done. Times are left out, so that equal runs write equal
// files. Bits per byte are of text that was not trained on, left out where a dataset has no held-out part; they
// show whether training went well and are no measurement for a gate.
type Summary struct {
	Spec          Spec    `json:"spec"` // with all defaults filled in
	Continued     bool    `json:"continued"`
	Parameters    int     `json:"parameters"`
	VocabSize     int     `json:"vocab_size"`
	DatasetTokens int     `json:"dataset_tokens"`
	DatasetBytes  int     `json:"dataset_bytes"`
	ReplayTokens  int     `json:"replay_tokens,omitempty"`
	TrainedTokens int     `json:"trained_tokens"`
	FinalLoss     float64 `json:"final_loss"`      // of the last batch, nats a token
	BytesPerToken float64 `json:"bytes_per_token"` // fresh stream
	InputsAndSpec string  `json:"fingerprint"`     // SHA-256 of spec and inputs

	HeldOutBitsPerByte *float64 `json:"heldout_bits_per_byte,omitempty"`
	ReplayBitsPerByte  *float64 `json:"replay_heldout_bits_per_byte,omitempty"`
}

// Run does a training job: it reads the inputs dataset, model (optional) and replay (optional) and writes the output
// model. When ctx is done it writes a checkpoint and returns job.ErrAgain. Errors in spec or inputs wrap job.ErrSpec.
func Run(ctx context.Context, j job.Job, log *slog.Logger) error {
	r := run{job: j, log: log}
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.train(ctx); err != nil {
		return err
	}
	return r.write()
}

type run struct {
	job       job.Job
	backends  []compute.Backend
	log       *slog.Logger
	spec      Spec
	config    llama.Config
	tokenizer *bpe.Tokenizer
	data      mixture
	heldOut   [2]*stream // of the dataset and of replay, where there are
	state     state
	step      int // steps done
	saved     int // the newest checkpoint's step
	kept      checkpoints
	summary   Summary
}

func (r *run) prepare() error {
	var spec Spec
	if err := r.job.Parameters(&spec); err != nil {
		return err
	}
	dataset := r.job.Input("dataset")
	if dataset == "" {
		return fmt.Errorf("%w: there is no input dataset", job.ErrSpec)
	}
	documents, err := text.Read(dataset, "train")
	if err != nil {
		return fmt.Errorf("%w: %w", job.ErrSpec, err)
	}
	var old []text.Document
	if dir := r.job.Input("replay"); dir != "" {
		if old, err = text.Read(dir, "train"); err != nil {
			return fmt.Errorf("%w: %w", job.ErrSpec, err)
		}
	}
	if err := r.begin(spec, documents, old != nil); err != nil {
		return err
	}
	for i, dir := range []string{dataset, r.job.Input("replay")} {
		if dir == "" {
			continue
		}
		if r.heldOut[i], err = heldOut(dir, r.tokenizer); err != nil {
			return fmt.Errorf("%w: %w", job.ErrSpec, err)
		}
	}
	if r.backends, err = newBackends(r.spec.Slices); err != nil {
		return err
	}
	fresh := newStream(r.tokenizer, documents)
	r.data = mixture{fresh: newOrder(fresh, r.spec.Context, r.spec.Seed, 1), fraction: r.spec.ReplayFraction}
	r.summary = Summary{
		Spec: r.spec, Continued: r.job.Input("model") != "", Parameters: r.config.Parameters(), VocabSize: r.config.VocabSize,
		DatasetTokens: len(fresh.tokens), DatasetBytes: fresh.bytes, BytesPerToken: float64(fresh.bytes) / float64(len(fresh.tokens)),
	}
	var replayed stream
	if old != nil {
		replayed = newStream(r.tokenizer, old)
		r.data.replay = newOrder(replayed, r.spec.Context, r.spec.Seed, 2)
		r.summary.ReplayTokens = len(replayed.tokens)
	}
	r.summary.InputsAndSpec = r.fingerprint(fresh, replayed)
	r.kept = checkpoints{dir: r.job.Checkpoints, config: r.config, fingerprint: r.summary.InputsAndSpec}
	return r.resume()
}

// begin sets spec, config, tokenizer and the weights to start from.
func (r *run) begin(spec Spec, documents []text.Document, replay bool) (err error) {
	dir := r.job.Input("model")
	if dir == "" {
		if r.spec, err = spec.resolve(nil, replay); err != nil {
			return err
		}
		if r.tokenizer, err = bpe.Learn(rendered(documents), r.spec.VocabSize); err != nil {
			return fmt.Errorf("%w: %w", job.ErrSpec, err)
		}
		r.config = r.spec.config()
		r.config.VocabSize = r.tokenizer.Size()
		r.state.params = initial(r.config, r.spec.Seed)
		return nil
	}
	if r.config, err = llama.ReadConfig(dir); err != nil {
		return fmt.Errorf("%w: %w", job.ErrSpec, err)
	}
	if r.spec, err = spec.resolve(&r.config, replay); err != nil {
		return err
	}
	if r.tokenizer, err = bpe.ReadFile(filepath.Join(dir, bpe.File)); err != nil {
		return fmt.Errorf("%w: %w", job.ErrSpec, err)
	}
	if r.tokenizer.Size() != r.config.VocabSize {
		return fmt.Errorf("%w: the base's tokenizer has %d tokens, its config says %d", job.ErrSpec, r.tokenizer.Size(), r.config.VocabSize)
	}
	if r.state.params, err = llama.ReadWeights(dir, r.config); err != nil {
		return fmt.Errorf("%w: %w", job.ErrSpec, err)
	}
	return nil
}

func rendered(documents []text.Document) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range documents {
			if !yield(d.Rendered()) {
				return
			}
		}
	}
}

func (r *run) fingerprint(streams ...stream) string {
	h := sha256.New()
	spec, _ := json.Marshal(r.spec) // a struct of numbers
	h.Write(spec)
	for _, s := range streams {
		_ = binary.Write(h, binary.LittleEndian, s.tokens) // a hash takes everything
	}
	hashFloats(h, r.state.params)
	return hex.EncodeToString(h.Sum(nil))
}

func hashFloats(h hash.Hash, lists [][]float32) {
	for _, l := range lists {
		_ = binary.Write(h, binary.LittleEndian, l)
	}
}

func (r *run) resume() error {
	step, saved, err := r.kept.newest()
	if err != nil {
		return fmt.Errorf("continue training: %w", err)
	}
	r.state.first, r.state.second = zeros(r.config), zeros(r.config)
	if step > 0 {
		r.state, r.step, r.saved = saved, step, step
	}
	r.log.Info("training begins", "from_step", r.step, "steps", r.spec.Steps, "parameters", r.config.Parameters(),
		"vocabulary", r.config.VocabSize, "tokens", len(r.data.fresh.stream.tokens), "continued", r.summary.Continued)
	return nil
}

func (r *run) train(ctx context.Context) error {
	g, err := newGradients(r.config, r.backends)
	if err != nil {
		return err
	}
	first := true
	reported, since, losses := time.Now(), r.step, 0.0
	for r.step < r.spec.Steps {
		if ctx.Err() != nil {
			return r.interrupt()
		}
		step := r.step + 1
		loss, parts, err := g.of(r.state.params, r.data.batch(step, r.spec.Batch), r.spec.Slices)
		if err != nil {
			return fmt.Errorf("training step %d: %w", step, err)
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return fmt.Errorf("%w: the loss is %g at step %d; lower learning_rate", job.ErrSpec, loss, step)
		}
		r.state.adamW(r.config, parts, step, r.spec.rate(step), r.spec.WeightDecay)
		r.step, r.state.loss = step, loss
		if step%r.spec.CheckpointEvery == 0 || step == r.spec.Steps {
			if err := r.checkpoint(); err != nil {
				return err
			}
		}
		losses += loss
		if passed := time.Since(reported); passed >= reportEvery || step == r.spec.Steps || first {
			steps := float64(step - since)
			if err := r.report(losses/steps, steps*float64(r.tokensAStep())/passed.Seconds()); err != nil {
				return err
			}
			first, reported, since, losses = false, time.Now(), step, 0
		}
	}
	return nil
}

func (r *run) tokensAStep() int { return r.spec.Batch * r.spec.Context }

func (r *run) checkpoint() error {
	if err := r.kept.save(r.step, r.state); err != nil {
		return err
	}
	r.saved = r.step
	return nil
}

func (r *run) interrupt() error {
	if r.step > r.saved {
		if err := r.checkpoint(); err != nil {
			return err
		}
	}
	r.log.Info("training interrupted", "checkpoint", r.saved)
	return fmt.Errorf("training stopped at step %d of %d: %w", r.step, r.spec.Steps, job.ErrAgain)
}

func (r *run) report(loss, speed float64) error {
	return r.job.Report(job.Report{
		Time: time.Now().UTC(), Step: r.step, Total: r.spec.Steps, Loss: loss, Tokens: r.step * r.tokensAStep(),
		TokensPerSecond: speed, LearningRate: r.spec.rate(r.step), Checkpoint: r.saved,
	})
}

// write makes the output. A run that was already finished when it began again writes the same.
func (r *run) write() error {
	dir, err := r.job.Output("model")
	if err != nil {
		return err
	}
	if err := llama.Write(dir, r.config, r.state.params); err != nil {
		return err
	}
	if err := r.tokenizer.WriteFile(filepath.Join(dir, bpe.File)); err != nil {
		return err
	}
	r.summary.TrainedTokens = r.step * r.tokensAStep()
	r.summary.FinalLoss = r.state.loss
	for i, to := range []**float64{&r.summary.HeldOutBitsPerByte, &r.summary.ReplayBitsPerByte} {
		if r.heldOut[i] == nil {
			continue
		}
		bits, err := bitsPerByte(r.backends[0], r.config, r.state.params, r.tokenizer, *r.heldOut[i])
		if err != nil {
			return err
		}
		*to = &bits
	}
	raw, err := json.MarshalIndent(r.summary, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the training's summary: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "training.json"), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the training's summary: %w", err)
	}
	return nil
}
