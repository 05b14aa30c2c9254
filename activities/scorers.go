package activities

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/evaluation"
	scorers "github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Judge is a model behind any OpenAI-compatible endpoint that suites may name. It is the operator's: a suite can choose
// among judges and can bring none.
type Judge struct {
	URL       string        // base address without /v1
	Model     string        // to ask for
	APIKey    string        // reference env:NAME or file:PATH; empty: none
	TimeLimit time.Duration // of one question; default 2 min
}

// Command is a program that suites may name as a scorer. It gets an item as JSON on standard input and writes
// {"score": number}. It is run without a shell, in a process group of its own, which is killed when the time is over.
type Command struct {
	Argv      []string      // program and arguments
	TimeLimit time.Duration // of one item; default 30 s
}

// world makes the operator's judges and commands ready to be asked.
func (e Evaluation) world() (scorers.World, error) {
	world := scorers.World{Judges: map[string]scorers.Judge{}, Commands: map[string]scorers.Command{}}
	for name, declared := range e.Judges {
		judge, err := e.judge(declared)
		if err != nil {
			return world, lifecycle.Wrap(err, "judge %s", name)
		}
		world.Judges[name] = judge
	}
	for name, declared := range e.Commands {
		if len(declared.Argv) == 0 {
			return world, lifecycle.Errorf(lifecycle.Invalid, "command %s names no program", name)
		}
		world.Commands[name] = declared
	}
	return world, nil
}

// PairScorer makes ready what scores the pairs of a shadow step.
func (e Evaluation) PairScorer(declared lifecycle.PairScorer) (evaluation.PairScorer, error) {
	world, err := e.world()
	if err != nil {
		return evaluation.PairScorer{}, err
	}
	return evaluation.NewPairScorer(declared, world)
}

// endpoint asks a judge's server, by the path that answers take: bounded, without redirects, in time.
type endpoint struct {
	client answer.Client
	limit  time.Duration
}

func (e Evaluation) judge(declared Judge) (endpoint, error) {
	if declared.URL == "" || declared.Model == "" {
		return endpoint{}, lifecycle.Errorf(lifecycle.Invalid, "give url and model")
	}
	up := answer.Upstream{URL: declared.URL, Model: declared.Model}
	if declared.APIKey != "" {
		if e.Secret == nil {
			return endpoint{}, lifecycle.Errorf(lifecycle.Invalid, "api_key: nothing reads references here")
		}
		key, err := e.Secret(declared.APIKey)
		if err != nil {
			return endpoint{}, err
		}
		up.APIKey = func() string { return key }
	}
	// A release of nothing but the model: no prompt, no rules, and the parameters that are asked for.
	bundle, err := answer.NewBundle(lifecycle.Release{Service: declared.Model, Parameters: lifecycle.Parameters{Override: true}}, nil)
	client := answer.Client{Path: pathOr(e.Path), Bundle: bundle, Upstream: up}
	return endpoint{client: client, limit: cmp.Or(declared.TimeLimit, 2*time.Minute)}, err
}

// Ask is score's.
func (j endpoint) Ask(ctx context.Context, instruction, about string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, j.limit, lifecycle.Errorf(lifecycle.Unavailable, "the judge did not answer within %s", j.limit))
	defer cancel()
	said, _, err := j.client.Chat(ctx, map[string]any{
		"messages":    []evaluation.Message{{Role: "system", Content: instruction}, {Role: "user", Content: about}},
		"temperature": 0, "seed": suiteSeed,
	})
	var refused *answer.UpstreamError
	if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		err = lifecycle.Errorf(lifecycle.Refused, "%w", err) // a wrong key or model: asking again gives the same
	}
	return said, err
}

// maxScored bounds what a command may write, in bytes.
const maxScored = 64 << 10

// Run is score's.
func (c Command) Run(ctx context.Context, input []byte) ([]byte, error) {
	limit := cmp.Or(c.TimeLimit, 30*time.Second)
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(timed, c.Argv[0], c.Argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // none of the worker's secrets
	cmd.Stdin = bytes.NewReader(input)
	out := &atMost{left: maxScored}
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case timed.Err() != nil:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "it did not end within %s", limit)
	case out.over:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "it wrote over %d bytes", maxScored)
	case err != nil:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%w", err) // an exit status or a missing program; what it wrote is not repeated
	}
	return out.Bytes(), nil
}

// atMost keeps the beginning of what is written and refuses the rest.
type atMost struct {
	bytes.Buffer
	left int
	over bool
}

func (a *atMost) Write(p []byte) (int, error) {
	if a.left -= len(p); a.left < 0 {
		a.over = true
		return 0, errors.New("too much was written")
	}
	return a.Buffer.Write(p)
}

// ReadFrom hides the buffer's own, which knows no bound.
func (a *atMost) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{a}, r)
}
