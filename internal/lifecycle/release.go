package lifecycle

import (
	"slices"
	"strings"
)

// Release is the immutable bundle of all that shapes an answer. Its ID is the digest of its
// canonical form: two equal bundles are one release, and any change makes another.
type Release struct {
	Service     string     `json:"service"`
	Model       Digest     `json:"model"`             // artifact of kind model
	Adapter     Digest     `json:"adapter,omitempty"` // artifact of kind adapter, on top of the model
	Prompt      Prompt     `json:"prompt"`
	Index       Digest     `json:"index,omitempty"`    // artifact of kind index
	Embedder    Digest     `json:"embedder,omitempty"` // artifact of kind embedder that the index was built with
	Parameters  Parameters `json:"parameters"`
	PostProcess []Rule     `json:"post_process,omitempty"` // applied in order
}

// Prompt is the template around what the user said and what was retrieved.
type Prompt struct {
	System  string `json:"system,omitempty"`  // first message; empty means none
	Context string `json:"context,omitempty"` // text/template over .Passages put before the last user message; empty means passages are not shown
}

// Parameters of inference. A client's own value wins where Override is set, else the release's.
// Zero means that the model server's default holds.
type Parameters struct {
	MaxTokens   int        `json:"max_tokens,omitempty"`
	Temperature *float64   `json:"temperature,omitempty"`
	TopP        *float64   `json:"top_p,omitempty"`
	Stop        []string   `json:"stop,omitempty"`
	TopK        int        `json:"retrieve,omitempty"` // passages to retrieve; 0 means none
	Override    bool       `json:"override,omitempty"` // clients may set their own sampling parameters
	Diffusion   *Diffusion `json:"diffusion,omitempty"`
}

// Diffusion parameters: latency is steps times the time of one step.
type Diffusion struct {
	Scheduler string  `json:"scheduler"`
	Steps     int     `json:"steps"`
	Guidance  float64 `json:"guidance"`
}

// Rule is one step of post-processing.
type Rule struct {
	Kind   string `json:"kind" jsonschema:"enum=max-length,enum=deny-pattern,enum=trim,enum=pii,enum=refusal-phrase,enum=json"`
	Value  string `json:"value,omitempty" jsonschema:"description=max-length: characters; deny-pattern: RE2 expression; pii: some of email\\,phone\\,card\\,iban\\,ip (default all); refusal-phrase: phrases one a line"`
	Action string `json:"action,omitempty" jsonschema:"enum=mask,enum=refuse,enum=count,enum=mark,description=mask (default of deny-pattern and pii) hides the match; refuse puts message in place of the answer; count (default of refusal-phrase and json) lets it pass; mark lets it pass with finish reason content_filter"`
	Notice string `json:"message,omitempty" jsonschema:"description=what the user reads instead\\, for refuse"`
}

// Lever is a part of a release that a candidate changes, cheapest first.
type Lever string

const (
	PromptLever     Lever = "prompt"
	RetrievalLever  Lever = "retrieval"
	WeightsLever    Lever = "weights"
	ParametersLever Lever = "parameters"
)

// ID is the digest of the canonical form.
func (r Release) ID() Digest { return DigestOf(r.Canonical()) }

// Canonical is the release's one JSON form.
func (r Release) Canonical() []byte { return canonical(r) }

// ServedName is the name under which a model server serves this release's weights, so that a server
// without them answers 404 instead of something else.
func (r Release) ServedName() string { return ServedName(r.Model, r.Adapter) }

// ServedName names weights: releases that share model and adapter share their servers.
func ServedName(model, adapter Digest) string {
	if adapter == "" {
		return "refit-" + model.Short()
	}
	return "refit-" + DigestOf([]byte(string(model)+"+"+string(adapter))).Short()
}

// Used names the parts that a gateway serves itself.
func (r Release) Used() Used {
	u := Used{Index: r.Index, Parameters: DigestOf(canonical(r.Parameters))}
	if r.Prompt != (Prompt{}) {
		u.Prompt = DigestOf(canonical(r.Prompt))
	}
	if len(r.PostProcess) > 0 {
		u.PostProcess = DigestOf(canonical(r.PostProcess))
	}
	return u
}

// Check gives all faults of a release at once.
func (r Release) Check() error {
	var faults Problems
	if !validName(r.Service) {
		faults.Add("service", quote(r.Service), "%s", nameRemedy)
	}
	if !r.Model.Valid() {
		faults.Add("model", quote(string(r.Model)), "give the digest of a model artifact")
	}
	for path, digest := range map[string]Digest{"adapter": r.Adapter, "index": r.Index, "embedder": r.Embedder} {
		if digest != "" && !digest.Valid() {
			faults.Add(path, quote(string(digest)), "give an artifact's digest, or leave it out")
		}
	}
	if r.Parameters.TopK > 0 && r.Index == "" {
		faults.Add("parameters.retrieve", itoa(r.Parameters.TopK), "retrieval needs an index")
	}
	faults = append(faults, checkParameters("parameters", r.Parameters)...)
	faults = append(faults, checkRules("post_process", r.PostProcess)...)
	slices.SortFunc(faults, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return faults.Err("release")
}

// Levers names what changed from one release to another, cheapest lever first.
func Levers(before, after Release) []Lever {
	var levers []Lever
	if before.Prompt != after.Prompt {
		levers = append(levers, PromptLever)
	}
	if before.Index != after.Index || before.Embedder != after.Embedder || before.Parameters.TopK != after.Parameters.TopK {
		levers = append(levers, RetrievalLever)
	}
	if before.Model != after.Model || before.Adapter != after.Adapter {
		levers = append(levers, WeightsLever)
	}
	x, y := before.Parameters, after.Parameters
	x.TopK, y.TopK = 0, 0
	if string(canonical(x)) != string(canonical(y)) || !slices.Equal(before.PostProcess, after.PostProcess) {
		levers = append(levers, ParametersLever)
	}
	return levers
}

// Compose bundles artifacts with what a service declares for its releases. A service that retrieves but
// has no index yet gets a release without retrieval; index may be nil.
func Compose(service Service, model Digest, index *Artifact) Release {
	release := Release{
		Service: service.Name, Model: model,
		Prompt: service.Release.Prompt, Parameters: service.Release.Parameters, PostProcess: service.Release.PostProcess,
	}
	if index == nil {
		release.Parameters.TopK = 0
		release.Prompt.Context = ""
		return release
	}
	release.Index = index.Digest
	release.Embedder = Digest(index.Labels[EmbedderLabel])
	return release
}

// EmbedderLabel is the label of an index artifact that names the embedder it was built with.
const EmbedderLabel = "embedder"
