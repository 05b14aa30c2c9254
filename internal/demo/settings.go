package demo

import (
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Settings set up a run. Bin, Declaration and SummaryFile must be given; Default gives those of `make demo`.
type Settings struct {
	Bin         string // folder of the commands refit, refit-runtime and devstack
	Checkout    string // folder of the module, where the go command is asked for documentation
	Declaration string // the example service, in YAML
	Text        string // folder of the user's own text or Markdown, as the fresh domain; empty: none
	SummaryFile string

	Data      string   // data folder; default the stack's own
	StackFile string   // of a stack that runs already; empty: devstack starts one
	Gateway   string   // address that `refit up` serves on; default 127.0.0.1:8080
	Control   string   // likewise; default 127.0.0.1:8090
	Env       []string // for `refit up`, over what this process has

	Edit    func(*lifecycle.Service) // changes the declaration before it is applied; nil: it stays as it is
	Forget  json.RawMessage          // parameters of the training that learns the fresh domain and forgets the old one
	Worse   int                      // capabilities that it must be proven worse in, or the run fails; default 3
	Mistake []lifecycle.Rule         // added to the service's post-processing: passes the gate and fails users
	Traffic Traffic
	Window  int64 // requests in the window that the highest share is looked for in; default 100

	Out  io.Writer // for people; default discarded
	Wide bool      // Out is a terminal, whose last line may be written over
	Log  *slog.Logger
}

// Environment variables that change a run of `make demo`.
const (
	TextVariable    = "REFIT_DEMO_TEXT"
	GatewayVariable = "REFIT_GATEWAY_LISTEN"
	ControlVariable = "REFIT_CONTROL_LISTEN"
)

// Default gives the settings of `make demo` in a checkout; getenv is os.Getenv outside of tests.
func Default(checkout string, getenv func(string) string) Settings {
	return Settings{
		Bin: filepath.Join(checkout, "bin"), Checkout: checkout,
		Declaration: filepath.Join(checkout, "configs", "examples", "docs-assistant.yaml"),
		SummaryFile: filepath.Join(checkout, "demo-summary.json"),
		Text:        getenv(TextVariable),
		Gateway:     getenv(GatewayVariable), Control: getenv(ControlVariable),
	}
}

func (s Settings) withDefaults() (Settings, error) {
	var faults lifecycle.Problems
	for path, value := range map[string]string{"bin": s.Bin, "declaration": s.Declaration, "summary file": s.SummaryFile} {
		if value == "" {
			faults.Add(path, "not given", "give a path")
		}
	}
	if s.StackFile != "" && s.Data == "" {
		faults.Add("data", "not given", "a stack that runs already needs a data folder for the demo beside it")
	}
	setDefault(&s.Checkout, ".")
	setDefault(&s.Gateway, "127.0.0.1:8080")
	setDefault(&s.Control, "127.0.0.1:8090")
	setDefault(&s.Window, 100)
	setDefault(&s.Worse, 3)
	if len(s.Forget) == 0 {
		s.Forget = json.RawMessage(`{"replay_fraction": -1, "learning_rate": 0.03, "warmup": 4, "steps": 80}`)
	}
	if len(s.Mistake) == 0 {
		// A limit that was meant in tokens and counts characters: it withholds nearly every answer of a chat, and
		// hardly one of the eight-token completions that a gate asks for.
		s.Mistake = []lifecycle.Rule{{
			Kind: lifecycle.RuleMaxLength, Value: "40", Action: "refuse", Notice: "This answer was too long and was withheld.",
		}}
	}
	if s.Out == nil {
		s.Out = io.Discard
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Traffic = s.Traffic.withDefaults()
	for _, path := range []*string{&s.Bin, &s.Checkout, &s.Declaration, &s.SummaryFile, &s.Text, &s.Data, &s.StackFile} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return s, lifecycle.Wrap(err, "make %s absolute", *path)
		}
		*path = absolute
	}
	return s, faults.Err("demo")
}

// Small makes a run of about three minutes for the end-to-end test: every stage is real, with less to learn, fewer
// questions at the gate and steps that need fewer conversations.
func Small(s Settings) Settings {
	s.Edit = small
	s.Forget = json.RawMessage(`{"replay_fraction": -1, "learning_rate": 0.03, "warmup": 4, "steps": 60}`)
	s.Worse = 1 // so small a base has not learned enough to lose it in every capability
	s.Window = 40
	s.Traffic = Traffic{Clients: 6, Pause: 100 * time.Millisecond}
	return s
}

func small(service *lifecycle.Service) {
	service.Training.Base = json.RawMessage(`{"steps": 150}`)
	service.Training.Continued = json.RawMessage(`{"steps": 80, "replay_fraction": 0.5}`)
	for name, corpus := range service.Corpora {
		corpus.MaxDocuments = 2000
		service.Corpora[name] = corpus
	}
	for i := range service.Evaluation.Capabilities {
		if c := &service.Evaluation.Capabilities[i]; c.Kind == "retrieval" {
			c.Margin = 0.1 // a small corpus gives few queries
		}
	}
	service.Rollout.Exposure = lifecycle.Exposure{Band: 3, Cap: 8, Threshold: 4}
	service.Rollout.Steps = []lifecycle.StepPolicy{
		{Share: 2000, MinConversations: 12, MaxTime: lifecycle.Duration(4 * time.Minute), Margin: 3},
		{Share: 5000, MinConversations: 25, MaxTime: lifecycle.Duration(4 * time.Minute), Margin: 2},
	}
	for i := range service.Rollout.Metrics {
		if m := &service.Rollout.Metrics[i]; m.Required {
			m.Floor = 0.3
		}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
