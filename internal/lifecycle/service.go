package lifecycle

import (
	"encoding/json"
	"time"
)

// Service is one foundation model in production under one name, with its policy. It is declared in
// YAML; every applied version is kept and has a digest.
type Service struct {
	Name        string            `json:"service" jsonschema:"description=Name of the service: 1 to 63 lower-case letters digits and dashes"`
	Description string            `json:"description,omitempty"`
	Serving     Serving           `json:"serving"`
	Corpora     map[string]Corpus `json:"corpora,omitempty" jsonschema:"description=Named collections of text; 'base' and 'fresh' are what training uses"`
	Training    Training          `json:"training,omitzero"`
	Retrieval   Retrieval         `json:"retrieval,omitzero"`
	Release     ReleaseDefaults   `json:"release,omitzero"`
	Evaluation  Evaluation        `json:"evaluation,omitzero"`
	Rollout     RolloutPolicy     `json:"rollout,omitzero"`
	Changes     ChangePolicy      `json:"changes,omitzero"`
	Shadow      Shadow            `json:"shadow,omitzero"`
	Feedback    FeedbackPolicy    `json:"feedback,omitzero"`
	Capture     CapturePolicy     `json:"capture,omitzero"`
	Cadences    []Cadence         `json:"cadences,omitempty"`
}

// Serving says what model servers the service has.
type Serving struct {
	Engine    string           `json:"engine" jsonschema:"enum=local,enum=static,description=local starts the reference runtime; static uses servers that are there"`
	Capacity  int              `json:"capacity,omitempty" jsonschema:"description=requests at once that one server of the local engine takes; default 4"`
	Endpoints []StaticEndpoint `json:"endpoints,omitempty" jsonschema:"description=for static: the model servers"`
	APIKey    string           `json:"api_key,omitempty" jsonschema:"description=for static: reference env:NAME or file:PATH to the key that the servers ask for"`
	TimeLimit Duration         `json:"time_limit,omitempty" jsonschema:"description=for a whole answer from the request's arrival on; default none"`
	FirstByte Duration         `json:"first_byte,omitempty" jsonschema:"description=until a model server begins its answer; default 2m"`
	Verified  bool             `json:"require_attribution,omitempty" jsonschema:"description=refuse servers that cannot tell which release answered"`
}

// StaticEndpoint is a model server that somebody else runs.
type StaticEndpoint struct {
	URL      string `json:"url" jsonschema:"description=base address without /v1"`
	Model    string `json:"model,omitempty" jsonschema:"description=model name to ask for; default: the release's served name"`
	Release  Digest `json:"release,omitempty" jsonschema:"description=the one release that this server serves; default: any whose served name it lists"`
	Capacity int    `json:"capacity,omitempty"`
}

// Corpus is a named collection of text.
type Corpus struct {
	Sources      []Source `json:"sources"`
	MinDocuments int      `json:"min_documents,omitempty" jsonschema:"description=fewer kept documents refuse the corpus; default 1"`
	MaxDocuments int      `json:"max_documents,omitempty" jsonschema:"description=take at most so many, spread evenly over the corpus; 0 is all"`
	HeldOut      float64  `json:"held_out,omitempty" jsonschema:"description=fraction of documents kept for evaluation; default 0.05"`
	MaxDropped   float64  `json:"max_dropped,omitempty" jsonschema:"description=refuse the corpus when the data check drops a larger fraction; default 0.5"`
}

// Source is a place where text comes from.
type Source struct {
	Kind    string   `json:"kind" jsonschema:"enum=go-std,enum=go-modules,enum=folder"`
	Modules []string `json:"modules,omitempty" jsonschema:"description=for go-modules: module paths in the worker's module cache"`
	Path    string   `json:"path,omitempty" jsonschema:"description=for folder: text or Markdown files below the worker's data_roots"`
}

// Training says how the service's model is trained.
type Training struct {
	Engine        string          `json:"engine,omitempty" jsonschema:"description=job engine; default local"`
	Command       []string        `json:"command,omitempty" jsonschema:"description=default refit-runtime train"`
	Base          json.RawMessage `json:"base,omitempty" jsonschema:"description=parameters of the job that trains the base model"`
	Continued     json.RawMessage `json:"continued,omitempty" jsonschema:"description=parameters of continued pre-training"`
	Resources     Resources       `json:"resources,omitzero"`
	MaxTime       Duration        `json:"max_time,omitempty" jsonschema:"description=of one try; default 2h"`
	Contamination Contamination   `json:"contamination,omitzero" jsonschema:"description=what becomes of training data that hold cases of the service's suites"`
}

// Retrieval says what the index holds and how it is made.
type Retrieval struct {
	Corpora  []string        `json:"corpora,omitempty" jsonschema:"description=names of corpora; empty means no retrieval"`
	Command  []string        `json:"command,omitempty" jsonschema:"description=default refit-runtime train-embedder"`
	Embedder json.RawMessage `json:"embedder,omitempty" jsonschema:"description=parameters of the job that trains the embedder"`
	Chunk    int             `json:"chunk,omitempty" jsonschema:"description=characters of one chunk at most; default 1200"`
	Overlap  int             `json:"overlap,omitempty" jsonschema:"description=characters shared by neighbours; default 0"`
}

// ReleaseDefaults is what a new release is made with, beside its artifacts.
type ReleaseDefaults struct {
	Prompt      Prompt     `json:"prompt,omitzero"`
	Parameters  Parameters `json:"parameters,omitzero"`
	PostProcess []Rule     `json:"post_process,omitempty"`
}

// Evaluation is the gate's policy. What a suite that people wrote asks and what is built from held-out documents is asked
// together.
type Evaluation struct {
	Suite        SuiteSource  `json:"suite,omitzero"`
	Capabilities []Capability `json:"capabilities,omitempty" jsonschema:"description=built from held-out documents"`
	Agreement    Agreement    `json:"agreement,omitzero"`
	AtOnce       int          `json:"batches_at_once,omitempty" jsonschema:"description=batches of a suite's cases that are asked at once; they share half of the places of the release's servers; 1 to 64; default 2"`
}

// Agreement is how far judges of a suite must agree with people before a gate believes them. It is part of the suite that
// gates ask, so a verdict says under which it was given.
type Agreement struct {
	Minimum float64 `json:"minimum,omitempty" jsonschema:"description=that the lower 95% limit of a judge's agreement with people must reach: of Cohen's kappa where scores are categories\\, of Spearman's correlation where they are numbers; over 0 and under 1; default: nothing is asked of judges"`
	Labels  int     `json:"labels,omitempty" jsonschema:"description=labels of people that each capability with a judge must have\\, of independent cases; default 30"`
}

// Given says whether anything is asked of judges.
func (a Agreement) Given() bool { return a != Agreement{} }

// SuiteSource says where a suite that people wrote lies: a folder with suite.yaml. It is read anew for every gate, and its
// digest tells whether it is still the same.
type SuiteSource struct {
	Folder string `json:"folder,omitempty" jsonschema:"description=clean absolute path below one of the worker's data_roots"`
	S3     string `json:"s3,omitempty" jsonschema:"description=prefix in the bucket of artifacts; in place of folder"`
}

// Given says whether there is one.
func (s SuiteSource) Given() bool { return s != SuiteSource{} }

// Capability is one thing that the model must be able to do.
type Capability struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind" jsonschema:"enum=bits-per-byte,enum=next-token,enum=cloze,enum=retrieval"`
	Corpus string  `json:"corpus" jsonschema:"description=corpus whose held-out documents are asked"`
	Items  int     `json:"items,omitempty" jsonschema:"description=cases at most; default 400"`
	Margin float64 `json:"margin,omitempty" jsonschema:"description=drop that is still accepted in the metric's unit; default 0.05"`
	Exact  bool    `json:"exact,omitempty" jsonschema:"description=judge by exact limits (betting): they assume nothing of the scores but that they lie between 0 and 1\\, and ask for more cases"`
}

// RolloutPolicy says how a candidate gets traffic.
type RolloutPolicy struct {
	Shadow   *ShadowStep    `json:"shadow,omitempty" jsonschema:"description=a step before the first share in which the candidate gets copies of requests and its answers are never shown"`
	Steps    []StepPolicy   `json:"steps,omitempty"`
	Metrics  []MetricPolicy `json:"metrics,omitempty"`
	Exposure Exposure       `json:"exposure,omitzero"`
	Levels   Levels         `json:"levels,omitzero"`
	BakeTime Duration       `json:"bake_time,omitempty" jsonschema:"description=how long the previous stable stays loaded after a promotion; default 24h"`
	FourEyes bool           `json:"four_eyes,omitempty" jsonschema:"description=who started a promotion may not approve its steps; where that is not proven two persons have to"`
	AtBound  string         `json:"at_bound,omitempty" jsonschema:"enum=roll-back,enum=ask,description=when a step's time is over without enough evidence; default roll-back"`
}

// StepPolicy is one step of a rollout.
type StepPolicy struct {
	Share            BasisPoints `json:"share_bp" jsonschema:"description=1 to 9999 basis points (500 is 5%)"`
	MinConversations int64       `json:"min_conversations,omitempty" jsonschema:"description=conversations on the canary in this step before it may end; default 50"`
	MaxTime          Duration    `json:"max_time,omitempty" jsonschema:"description=default 24h"`
	Approval         bool        `json:"approval,omitempty" jsonschema:"description=a person approves before the step begins"`
	Margin           float64     `json:"margin,omitempty" jsonschema:"description=risk ratio that required metrics must prove to be under; default 5 then 3 then 2 then 1.5 by share"`
}

// MetricPolicy is one live metric of the judge.
type MetricPolicy struct {
	Name      string  `json:"name" jsonschema:"enum=errors,enum=guardrails,enum=refusals,enum=thumbs-down,enum=abandoned,enum=slow"`
	Required  bool    `json:"required,omitempty" jsonschema:"description=must prove to be safe before a step ends"`
	Weight    float64 `json:"weight,omitempty" jsonschema:"description=share of the false-alarm level; default 1"`
	Tolerated float64 `json:"tolerated,omitempty" jsonschema:"description=risk ratio that is no harm yet; default 1"`
	Floor     float64 `json:"floor,omitempty" jsonschema:"description=canary rate under which the metric is safe whatever stable does; 0 means none"`
}

// Exposure is the rule by which a canary gets its share; see the design for what the numbers cost.
type Exposure struct {
	Band      float64 `json:"band,omitempty" jsonschema:"description=width of the coin's band in shares; default 3"`
	Cap       float64 `json:"cap,omitempty" jsonschema:"description=credit at most (B) over all gateways; one gateway uses 20 of the default of 60 and each further one adds 2.5"`
	Threshold float64 `json:"threshold,omitempty" jsonschema:"description=credit from which new conversations toss (H) at one gateway; each further one adds 1.5; default 12"`
	Tokens    int64   `json:"tokens,omitempty" jsonschema:"description=token credit at most at one gateway: tokens of the canary's answers stay under the share of all; a canary request reserves its max_tokens; 0 counts requests only"`
	Reserve   int64   `json:"reserve,omitempty" jsonschema:"description=tokens reserved for a request that names no limit where its release names none; default 1024 where tokens are counted"`
}

// Levels are how often the judge may be wrong by chance in one rollout, over all its steps and looks.
type Levels struct {
	Share   float64 `json:"share,omitempty" jsonschema:"description=of ending a rollout as invalid although no more was served than allowed; default 0.01"`
	Harm    float64 `json:"harm,omitempty" jsonschema:"description=of rolling back a release that is no worse than tolerated; shared by all metrics by weight; default 0.05"`
	Promote float64 `json:"promote,omitempty" jsonschema:"description=of ending a step with a required metric at its margin; default 0.05"`
}

// WithDefaults fills in what is 0.
func (l Levels) WithDefaults() Levels {
	setDefault(&l.Share, 0.01)
	setDefault(&l.Harm, 0.05)
	setDefault(&l.Promote, 0.05)
	return l
}

// Shadow is a release that gets copies of requests and whose answers nobody is shown. It needs model servers that no
// release of the route uses. Copies are dropped rather than waited for.
type Shadow struct {
	Release   Digest      `json:"release,omitempty" jsonschema:"description=whole ID of the release; left out: none. While it is stable or the canary it gets no copies"`
	Share     BasisPoints `json:"share_bp,omitempty" jsonschema:"description=of requests that are copied: 1 to 10000 basis points; default 100 (1%)"`
	AtOnce    int         `json:"at_once,omitempty" jsonschema:"description=copies under way at one gateway at most; default 2"`
	PerMinute int         `json:"per_minute,omitempty" jsonschema:"description=copies that one gateway begins in a minute at most; default 60"`
	Deadline  Duration    `json:"deadline,omitempty" jsonschema:"description=that one copy may take; default 30s"`
}

// FeedbackPolicy says when feedback becomes a dataset.
type FeedbackPolicy struct {
	MinItems int     `json:"min_items,omitempty" jsonschema:"description=fewer curated items make no dataset; default 20"`
	MaxShare float64 `json:"max_share,omitempty" jsonschema:"description=of one client in the dataset at most; default 0.1"`
}

// CapturePolicy says what of an interaction is kept.
type CapturePolicy struct {
	Content   string    `json:"content,omitempty" jsonschema:"enum=full,enum=metadata,description=metadata keeps no byte of prompt or answer; default metadata"`
	Sample    *float64  `json:"sample,omitempty" jsonschema:"description=share of conversations whose prompts and answers are kept; default 1. Outcome and latencies and usage and guardrail hits are always kept"`
	Redact    Redaction `json:"redact,omitzero"`
	Retention Duration  `json:"retention,omitempty" jsonschema:"description=how long interactions stay in the database once they are archived; at least 72h; default 720h"`
}

// Redaction says what is masked in prompts and answers and feedback before anything of them touches a disk.
type Redaction struct {
	Kinds    []string `json:"kinds,omitempty" jsonschema:"enum=email,enum=card,enum=iban,enum=ip,enum=phone,description=personal data that is known by its form"`
	Patterns []string `json:"patterns,omitempty" jsonschema:"description=RE2 regular expressions"`
}

// Cadence is one scheduled loop.
type Cadence struct {
	Loop     Loop     `json:"loop" jsonschema:"enum=pretraining,enum=index,enum=evaluation,enum=tuning,enum=archive"`
	Cron     string   `json:"cron" jsonschema:"description=five fields: minute hour day month weekday"`
	TimeZone string   `json:"time_zone,omitempty" jsonschema:"description=IANA name; default UTC"`
	Jitter   Duration `json:"jitter,omitempty"`
	Overlap  string   `json:"overlap,omitempty" jsonschema:"enum=skip,enum=buffer-one,description=when the last run still goes on; default skip"`
}

// Digest names this version of the declaration.
func (s Service) Digest() Digest { return DigestOf(canonical(s)) }

// WithDefaults fills in what was left out. Everything downstream reads the result, so defaults stand here
// and nowhere else.
func (s Service) WithDefaults() Service {
	setDefault(&s.Serving.Engine, "local")
	setDefault(&s.Serving.Capacity, 4)
	corpora := make(map[string]Corpus, len(s.Corpora))
	for name, c := range s.Corpora {
		setDefault(&c.MinDocuments, 1)
		setDefault(&c.HeldOut, 0.05)
		setDefault(&c.MaxDropped, 0.5)
		corpora[name] = c
	}
	if len(corpora) > 0 {
		s.Corpora = corpora
	}
	setDefault(&s.Training.Engine, "local")
	setDefault(&s.Training.MaxTime, Duration(2*time.Hour))
	s.Training.Contamination = s.Training.Contamination.WithDefaults()
	if len(s.Training.Command) == 0 {
		s.Training.Command = []string{"refit-runtime", "train"}
	}
	if len(s.Retrieval.Command) == 0 {
		s.Retrieval.Command = []string{"refit-runtime", "train-embedder"}
	}
	setDefault(&s.Retrieval.Chunk, 1200)
	s.Evaluation.Capabilities = withDefaults(s.Evaluation.Capabilities, func(c *Capability) {
		setDefault(&c.Items, 400)
		setDefault(&c.Margin, 0.05)
	})
	setDefault(&s.Evaluation.AtOnce, 2)
	if s.Evaluation.Agreement.Given() {
		setDefault(&s.Evaluation.Agreement.Labels, 30)
	}
	s.Rollout = s.Rollout.withDefaults()
	s.Changes = s.Changes.withDefaults()
	setDefault(&s.Feedback.MinItems, 20)
	setDefault(&s.Feedback.MaxShare, 0.1)
	if s.Shadow.Release != "" {
		setDefault(&s.Shadow.Share, 100)
		setDefault(&s.Shadow.AtOnce, 2)
		setDefault(&s.Shadow.PerMinute, 60)
		setDefault(&s.Shadow.Deadline, Duration(30*time.Second))
	}
	setDefault(&s.Capture.Content, "metadata")
	setDefault(&s.Capture.Retention, Duration(720*time.Hour))
	s.Cadences = withDefaults(s.Cadences, func(c *Cadence) {
		setDefault(&c.TimeZone, "UTC")
		setDefault(&c.Overlap, "skip")
	})
	return s
}

func (p RolloutPolicy) withDefaults() RolloutPolicy {
	if p.Shadow != nil {
		shadow := p.Shadow.WithDefaults()
		p.Shadow = &shadow
	}
	if len(p.Steps) == 0 {
		for _, share := range []BasisPoints{100, 500, 2500, 5000, 9500} {
			p.Steps = append(p.Steps, StepPolicy{Share: share})
		}
	}
	p.Steps = withDefaults(p.Steps, func(s *StepPolicy) {
		setDefault(&s.MinConversations, 50)
		setDefault(&s.MaxTime, Duration(24*time.Hour))
		setDefault(&s.Margin, defaultMargin(s.Share))
	})
	if len(p.Metrics) == 0 {
		p.Metrics = []MetricPolicy{{Name: "errors", Required: true}}
	}
	p.Metrics = withDefaults(p.Metrics, func(m *MetricPolicy) {
		setDefault(&m.Weight, 1)
		setDefault(&m.Tolerated, 1)
	})
	setDefault(&p.Exposure.Band, 3)
	setDefault(&p.Exposure.Cap, 60)
	setDefault(&p.Exposure.Threshold, 12)
	if p.Exposure.Tokens > 0 {
		setDefault(&p.Exposure.Reserve, 1024)
	}
	p.Levels = p.Levels.WithDefaults()
	setDefault(&p.BakeTime, Duration(24*time.Hour))
	setDefault(&p.AtBound, "roll-back")
	return p
}

// defaultMargin: a small share can prove little, so early steps ask for little.
func defaultMargin(share BasisPoints) float64 {
	switch {
	case share <= 100:
		return 5
	case share <= 500:
		return 3
	case share <= 2500:
		return 2
	default:
		return 1.5
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// withDefaults copies, so that filling in never changes what the caller holds.
func withDefaults[T any](items []T, fill func(*T)) []T {
	out := make([]T, len(items))
	for i, item := range items {
		fill(&item)
		out[i] = item
	}
	return out
}
