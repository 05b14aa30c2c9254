package answer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// run is one request on its way.
type run struct {
	path   *Path
	bundle *Bundle
	sink   Sink
	asked  *asked
	result Result
	output []byte    // of the result
	reader reader    // of what the model server says
	list   []choice  // of the answer, or of the event at hand
	room   [1]choice // most have one
	unsent bool      // the sink has what no flush followed
	sent   time.Time // when the request went to the model server
}

func (r *run) do(ctx context.Context, up Upstream, request Request) error {
	if request.Asked == nil {
		asked, err := Read(request.Endpoint, request.Body)
		if err != nil {
			return err
		}
		request.Asked = asked
	}
	r.asked, r.list = &request.Asked.asked, r.room[:0]
	r.result.Stream = r.asked.stream
	if !request.Unkept {
		r.result.Input = r.asked.query.bounded(r.path.settings.MaxText)
	}
	if up.Model == "" {
		up.Model = r.bundle.Release.ServedName()
	}
	if r.asked.endpoint == Embeddings {
		return r.embed(ctx, up, request)
	}
	passages, err := r.retrieve(ctx)
	if err != nil {
		return err
	}
	edits, err := r.bundle.assemble(r.asked, up.Model, passages)
	if err != nil {
		return err
	}
	r.result.Parameters = r.bundle.inForce(r.asked)
	return r.call(ctx, up, edits, request)
}

// pathOf gives an endpoint's path at a model server.
func pathOf(endpoint string) string {
	switch endpoint {
	case Completions:
		return "/v1/completions"
	case Embeddings:
		return "/v1/embeddings"
	case Images:
		return "/v1/images/generations"
	default:
		return "/v1/chat/completions"
	}
}

// retrieve searches the index with the last user text of a chat.
func (r *run) retrieve(ctx context.Context) ([]Passage, error) {
	k := r.bundle.Release.Parameters.TopK
	if r.asked.endpoint != Chat || k == 0 {
		return nil, nil
	}
	query := r.asked.query.text()
	if strings.TrimSpace(query) == "" {
		return nil, nil
	}
	began := r.path.settings.Now()
	passages, err := r.bundle.index.Search(ctx, query, k)
	r.result.Latency.Retrieval = r.since(began)
	if err != nil {
		return nil, lifecycle.Wrap(err, "retrieve passages")
	}
	for _, p := range passages {
		r.result.Passages = append(r.result.Passages, p.ID)
		r.result.Scores = append(r.result.Scores, p.Score)
	}
	if r.bundle.context != nil {
		r.result.Shown = passages
	}
	return passages, nil
}

// embed passes a request for embeddings on: only the model's name is Refit's.
func (r *run) embed(ctx context.Context, up Upstream, request Request) error {
	model := up.EmbedModel
	if model == "" {
		if r.bundle.Release.Embedder == "" {
			return lifecycle.Errorf(lifecycle.NotFound, "release %s has no embedder", r.bundle.ID.Short())
		}
		model = lifecycle.ServedName(r.bundle.Release.Embedder, "")
	}
	edits, err := r.bundle.assemble(r.asked, model, nil)
	if err != nil {
		return err
	}
	return r.call(ctx, up, edits, request)
}

func (r *run) call(ctx context.Context, up Upstream, edits []edit, request Request) error {
	if request.Sending != nil {
		request.Sending(request.Header)
	}
	r.sent = r.path.settings.Now()
	body := body{asked: request.Asked, doc: r.asked.body.doc, edits: edits}
	response, err := r.path.call(ctx, up, pathOf(r.asked.endpoint), body, request.Header, request.FirstByte)
	if err != nil {
		r.result.Latency.Model = r.since(r.sent)
		return err
	}
	defer response.Body.Close()
	if r.asked.stream {
		err = r.stream(response)
	} else {
		err = r.whole(response)
	}
	// The rules' time lies within the call's: a stream is cleaned while it comes.
	r.result.Latency.Model = max(0, r.since(r.sent)-r.result.Latency.PostProcessing)
	return err
}

func (r *run) since(t time.Time) float64 { return r.path.settings.Now().Sub(t).Seconds() }

// process times the rules.
func (r *run) process(p *processor, s string, last bool) string {
	if len(p.stages) == 0 {
		return s
	}
	began := r.path.settings.Now()
	out := p.feed(s, last)
	r.result.Latency.PostProcessing += r.since(began)
	return out
}

// start makes the rules ready for one choice. A score is no answer, so no rule applies to it.
func (r *run) start() *processor {
	if r.asked.score {
		return new(processor)
	}
	return r.bundle.chain.start()
}

// unruled says whether no rule holds.
func (r *run) unruled() bool { return r.asked.score || len(r.bundle.chain.rules) == 0 }

// note keeps what a choice's rules did.
func (r *run) note(p *processor) {
	for _, hit := range p.hits {
		if !slices.Contains(r.result.Guardrails, hit) {
			r.result.Guardrails = append(r.result.Guardrails, hit)
		}
	}
	if p.refused || p.denied {
		r.result.Outcome = OutcomeRefused
	}
}

// keep adds to the text that is kept for the result.
func (r *run) keep(s string) {
	if free := r.path.settings.MaxText - len(r.output); free > 0 {
		r.output = append(r.output, bounded(s, free)...)
	}
}

// keepRaw is keep for a text that nobody had to decode.
func (r *run) keepRaw(raw []byte) {
	if free := r.path.settings.MaxText - len(r.output); free > 0 {
		if r.output == nil && !r.asked.stream {
			r.output = make([]byte, 0, min(len(raw), free))
		}
		r.output = appendText(r.output, raw, free)
	}
}

// whole passes on an answer that is no stream.
func (r *run) whole(response *http.Response) error {
	limit := r.path.settings.MaxResponse
	if r.asked.endpoint == Images {
		limit = r.path.settings.MaxImages
	}
	doc, err := readBounded(response.Body, limit, response.ContentLength)
	if err != nil {
		return err
	}
	body, err := r.reader.parse(doc)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer: %s", err.Error())
	}
	r.meter(body)
	edits, err := r.cleanWhole(body)
	if err != nil {
		return err
	}
	r.begin(wholeHead)
	return r.send(apply(doc, edits))
}

// meter keeps the usage that an answer or a chunk brings, and says whether it brings one. Images count input and
// output where texts count prompt and completion.
func (r *run) meter(body object) bool {
	usage, ok := body.child("usage")
	if !ok {
		return false
	}
	r.result.Usage = lifecycle.Usage{Prompt: usage.integer("prompt_tokens"), Completion: usage.integer("completion_tokens")}
	if r.asked.endpoint == Images {
		r.result.Usage = lifecycle.Usage{Prompt: usage.integer("input_tokens"), Completion: usage.integer("output_tokens")}
	}
	return true
}

func (r *run) cleanWhole(body object) ([]edit, error) {
	if r.asked.endpoint == Embeddings || r.asked.endpoint == Images {
		if at, ok := body.find("data"); !ok || body.doc[at.from] != '[' {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer has no data")
		}
		return nil, nil
	}
	choices, err := choicesOf(r.list, body)
	if err != nil {
		return nil, err
	}
	if len(choices) == 0 {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer holds no choice")
	}
	var edits []edit
	for _, c := range choices {
		if r.unruled() {
			if c.index == 0 {
				r.result.Finish = c.finish
				r.keepRaw(c.content.of(body.doc))
			}
			continue
		}
		content, p := text(c.content.of(body.doc)), r.start()
		p.noText = c.callsTool()
		cleaned := r.process(p, content, true)
		r.note(p)
		if cleaned != content {
			edits = append(edits, edit{c.content, quoted(cleaned)})
		}
		finish := p.ending(c.finish)
		if finish != c.finish && c.finishAt.to > 0 {
			edits = append(edits, edit{c.finishAt, quoted(finish)})
		}
		if c.index == 0 {
			r.result.Finish = finish
			r.keep(cleaned)
		}
		hidden, err := r.hide(c)
		if err != nil {
			return nil, err
		}
		edits = append(edits, hidden...)
	}
	return edits, nil
}

// hide drops what would show what a rule hides: the tokens' own texts and a reasoning model's thoughts. An answer
// whose text the rules cannot read is none.
func (r *run) hide(c choice) ([]edit, error) {
	if !r.bundle.chain.hides || r.asked.score {
		return nil, nil
	}
	if c.parts {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer has a text that the release's rules cannot read")
	}
	var edits []edit
	if c.logprobs.to > 0 {
		edits = append(edits, edit{c.logprobs, []byte("null")})
	}
	for _, at := range c.thoughts {
		edits = append(edits, edit{at, []byte("null")})
	}
	return edits, nil
}

// choice is what Refit reads and changes of one choice. A span that ends at 0 is missing.
type choice struct {
	at       span // of the whole choice
	index    int
	content  span // of message.content, delta.content or text, where it is a string
	finishAt span
	finish   string // "" while null or missing
	logprobs span   // where not null
	thoughts []span // a reasoning model's other texts, where not null
	parts    bool   // the content is neither a string nor null
	says     bool   // there is more in it than a role
}

// callsTool says whether the choice ended with a tool's call, which needs no text.
func (c choice) callsTool() bool { return c.finish == "tool_calls" || c.finish == "function_call" }

// thoughtKeys are what servers call the text that a reasoning model writes before its answer.
var thoughtKeys = []string{"reasoning_content", "reasoning"}

// choicesOf adds the choices of an answer or of a stream's chunk to a list.
func choicesOf(choices []choice, body object) ([]choice, error) {
	at, ok := body.find("choices")
	if !ok || body.doc[at.from] != '[' {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's answer has no choices")
	}
	for each := range body.in.elements(at.from) {
		if body.doc[each.from] != '{' {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "a choice of the model server's answer is not an object")
		}
		o, err := body.in.object(each.from)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "a choice of the model server's answer: %s", err.Error())
		}
		c := choice{at: each, index: o.integer("index")}
		if at, ok := o.find("finish_reason"); ok {
			c.finishAt, c.finish = at, text(at.of(body.doc))
		}
		if at, ok := o.find("logprobs"); ok && !isNull(at.of(body.doc)) {
			c.logprobs = at
		}
		holder, key := o, "text"
		if inner, ok := o.child("message"); ok {
			holder, key = inner, "content"
		}
		if inner, ok := o.child("delta"); ok {
			holder, key = inner, "content"
		}
		if at, ok := holder.find(key); ok {
			switch value := at.of(body.doc); {
			case value[0] == '"':
				c.content, c.says = at, len(value) > len(`""`)
			default:
				c.parts = !isNull(value)
			}
		}
		for _, m := range holder.members {
			empty := false
			switch string(m.value.of(body.doc)) {
			case "null", `""`, "[]":
				empty = true
			}
			if slices.Contains(thoughtKeys, m.key) && !empty {
				c.thoughts = append(c.thoughts, m.value)
			}
			c.says = c.says || key == "content" && !empty && m.key != "role" && m.key != key
		}
		choices = append(choices, c)
	}
	return choices, nil
}

// Heads of answers. Nobody changes them.
var (
	wholeHead  = http.Header{"Content-Type": {"application/json"}}
	streamHead = http.Header{"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
)

// begin tells the client that an answer comes.
func (r *run) begin(head http.Header) {
	r.result.Started, r.result.Status = true, http.StatusOK
	r.sink.Start(http.StatusOK, head)
}

// errClient marks that the client, not the model server, went away.
var errClient = errors.New("the client went away")

func (r *run) send(b []byte) error {
	if err := r.put(b); err != nil {
		return err
	}
	return r.flush()
}

// put gives the sink what may wait for the next flush.
func (r *run) put(b []byte) error {
	r.unsent = true
	if _, err := r.sink.Write(b); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "%w: %w", errClient, err)
	}
	return nil
}

func (r *run) flush() error {
	if !r.unsent {
		return nil
	}
	r.unsent = false
	if err := r.sink.Flush(); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "%w: %w", errClient, err)
	}
	return nil
}

// conclude names the outcome.
func (r *run) conclude(ctx context.Context, err error) {
	switch {
	case err == nil:
		if r.result.Outcome == "" {
			r.result.Outcome = OutcomeOK
		}
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded), errors.Is(err, errClient):
		r.result.Outcome, r.result.Status = OutcomeCanceled, statusClientGone
	default:
		r.result.Outcome = OutcomeError
		var upstream *UpstreamError
		switch kind := lifecycle.KindOf(err); {
		case errors.As(err, &upstream) && kind == lifecycle.Invalid:
			r.result.Status = upstream.Status
		case upstream != nil && upstream.Status == http.StatusTooManyRequests:
			r.result.Status = http.StatusTooManyRequests
		case TooSlow(err), ctx.Err() != nil:
			r.result.Status = http.StatusGatewayTimeout
		case errors.Is(err, io.ErrUnexpectedEOF), upstream != nil:
			r.result.Status = http.StatusBadGateway
		default:
			r.result.Status = kind.HTTPStatus()
		}
	}
}

// statusClientGone is what logs and metrics call a request whose client did not wait (nginx's custom).
const statusClientGone = 499
