package answer

import (
	"context"
	"net/http"
	"slices"
	"text/template"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Endpoints of the OpenAI API that this path serves.
const (
	Chat        = "chat"        // /v1/chat/completions
	Completions = "completions" // /v1/completions
	Embeddings  = "embeddings"  // /v1/embeddings
	Images      = "images"      // /v1/images/generations
)

// Outcomes of a request, as interactions spell them.
const (
	OutcomeOK       = "ok"
	OutcomeError    = "error"
	OutcomeRefused  = "refused" // a rule put its notice in place of the answer, or the model itself refused
	OutcomeCanceled = "canceled"
)

// Passage is one piece of text that retrieval found.
type Passage struct {
	ID       string // of the chunk
	Document string
	Title    string
	Text     string
	Score    float64 // larger is better
}

// Searcher finds the k passages nearest to a query, best first. Fewer than k is no error.
type Searcher interface {
	Search(ctx context.Context, query string, k int) ([]Passage, error)
}

// Bundle is a release made ready to answer. It is immutable and shared by any number of requests.
type Bundle struct {
	ID      lifecycle.Digest
	Release lifecycle.Release

	index    Searcher
	context  *template.Template // nil: passages are not shown
	chain    *chain
	system   []byte // the system message, as it is put first; nil: none
	sampling []parameter
}

// Upstream is one model server. A bundle may have many; the caller chooses one for each request.
type Upstream struct {
	URL        string        // base address without /v1
	Model      string        // name to ask for; default the release's served name
	EmbedModel string        // name of the embedder; default the served name of the release's embedder
	APIKey     func() string // nil or empty: none. Read at each request, so that keys can be changed
	Client     *http.Client  // default: the path's own
}

// Request is what a client asked.
type Request struct {
	Endpoint string      // Chat, Completions, Embeddings or Images
	Body     []byte      // the client's JSON, bounded by the caller; never changed
	Header   http.Header // only trace context, x-request-id and x-refit-conversation-hash cross
	Asked    *Asked      // what Read gave, in place of Endpoint and Body; default: Do reads them

	FirstByte time.Duration // until the server's answer begins; default Settings.FirstByte
	Unkept    bool          // nobody reads Result.Input, so it stays empty

	// Sending is called before a model server is asked for the answer, and may change Header; nil: nobody is told.
	Sending func(http.Header)
}

// Sink takes the answer. Start comes at most once and before the first Write, and its header is not the sink's to change; Flush comes before
// anybody waits for more of a stream, and at the end of the answer. The bytes of an answer that is no stream are the sink's to keep, those of
// a stream's event only until Write returns.
type Sink interface {
	Start(status int, header http.Header)
	Write(p []byte) (int, error)
	Flush() error
}

// Result says what came of a request. It is filled as far as the request came, also with an error.
type Result struct {
	Started    bool // something was sent to the client
	Stream     bool // the client asked for a stream
	Status     int  // HTTP status that the client got, or that an error stands for
	Outcome    string
	Latency    lifecycle.Latency // seconds; FirstToken is 0 where the answer was not a stream
	Usage      lifecycle.Usage   // as the model server counted; zero where it did not say
	Finish     string            // of the first choice
	Passages   []string          // IDs of what was retrieved, best first
	Shown      []Passage         // likewise with its texts, where the release's prompt shows passages
	Scores     []float64         // of Passages
	Parameters []byte            // numbers that the answer was made with, as a JSON object; nil for embeddings
	Guardrails []string          // rules that minded the answer, as "deny-pattern[1]" or "pii[2]:email": kind and place; trimming is none
	Input      string            // last user text or prompt, bounded by Settings.MaxText
	Output     string            // what the client got as the first choice's text, bounded likewise
}

// Settings of a path. The zero value works.
type Settings struct {
	Now         func() time.Time // clock of the latencies; default time.Now
	Client      *http.Client     // default: no proxy, no redirects, no compression, keeps connections
	FirstByte   time.Duration    // until the server's answer begins; default 2 min
	Idle        time.Duration    // between two reads of an answer; default 1 min
	MaxResponse int              // bytes of an answer that is no stream; default 16 MiB
	MaxImages   int              // bytes of an answer that holds images; default 64 MiB
	MaxEvent    int              // bytes of one event of a stream; default 1 MiB
	MaxText     int              // bytes of Input and Output kept in the result; default 16 KiB
}

// Path answers requests. It holds no state but connections and is safe for concurrent use.
type Path struct {
	settings Settings
	targets  targets
}

// New makes a path.
func New(settings Settings) *Path {
	if settings.Now == nil {
		settings.Now = time.Now
	}
	if settings.Client == nil {
		settings.Client = newClient()
	}
	setDefault(&settings.FirstByte, 2*time.Minute)
	setDefault(&settings.Idle, time.Minute)
	setDefault(&settings.MaxResponse, 16<<20)
	setDefault(&settings.MaxImages, 64<<20)
	setDefault(&settings.MaxEvent, 1<<20)
	setDefault(&settings.MaxText, 16<<10)
	return &Path{settings: settings}
}

// MaxText is the bound of Input and Output: a text as long as that may have been cut.
func (p *Path) MaxText() int { return p.settings.MaxText }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// NewBundle makes a release ready: its template and its rules are compiled once. A release that retrieves
// needs an index; what cannot be meant is Invalid.
func NewBundle(release lifecycle.Release, index Searcher) (*Bundle, error) {
	b := &Bundle{ID: release.ID(), Release: release, index: index, sampling: samplingOf(release.Parameters)}
	if release.Prompt.System != "" {
		b.system = systemMessage(release.Prompt.System)
	}
	if release.Parameters.TopK > 0 && index == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "release %s retrieves %d passages and has no index", b.ID.Short(), release.Parameters.TopK)
	}
	if release.Prompt.Context != "" {
		t, err := template.New("context").Option("missingkey=error").Parse(release.Prompt.Context)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "context template of release %s: %w", b.ID.Short(), err)
		}
		b.context = t
		// A template that asks for what passages do not have fails here and not at the first user.
		if _, err := b.render([]Passage{{ID: "id", Document: "document", Title: "title", Text: "text", Score: 1}}); err != nil {
			return nil, err
		}
	}
	chain, err := newChain(release.PostProcess)
	if err != nil {
		return nil, lifecycle.Wrap(err, "rules of release %s", b.ID.Short())
	}
	b.chain = chain
	return b, nil
}

// SearchDocuments finds the k documents nearest to a query, best first, each by its best passage: how the gate
// asks for what users would be shown. A release without an index is NotFound.
func (b *Bundle) SearchDocuments(ctx context.Context, query string, k int) ([]string, error) {
	if b.index == nil {
		return nil, lifecycle.Errorf(lifecycle.NotFound, "release %s has no index", b.ID.Short())
	}
	passages, err := b.index.Search(ctx, query, k*passagesPerDocument)
	if err != nil {
		return nil, lifecycle.Wrap(err, "search the index of release %s", b.ID.Short())
	}
	var documents []string
	for _, p := range passages {
		if len(documents) < k && !slices.Contains(documents, p.Document) {
			documents = append(documents, p.Document)
		}
	}
	return documents, nil
}

// passagesPerDocument is how many passages are looked at to find one document: long ones have several.
const passagesPerDocument = 4

// Do answers one request: what the model server said goes to sink, what came of it into the result, which is never nil. See
// the package's description for what an error before and after Sink.Start means.
func (p *Path) Do(ctx context.Context, b *Bundle, up Upstream, request Request, sink Sink) (*Result, error) {
	began := p.settings.Now()
	run := &run{path: p, bundle: b, sink: sink}
	err := run.do(ctx, up, request)
	run.result.Latency.Total = p.settings.Now().Sub(began).Seconds()
	run.result.Output = string(run.output)
	run.conclude(ctx, err)
	return &run.result, err
}
