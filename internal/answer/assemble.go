package answer

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// asked is what Refit needs to know of a client's request.
type asked struct {
	body     object
	endpoint string
	model    string // that the client named; "" where it named none
	stream   bool
	usage    bool   // the client itself asked a stream for its usage
	score    bool   // echo with max_tokens 0: nothing is generated
	query    source // last user text of a chat, prompt of a completion; none for embeddings
	first    []byte // what begins the conversation: see Asked.First
	turns    int    // of the assistant so far
	messages []span // of a chat
	lastUser int    // place in messages of the last user message; -1 for none
}

// Asked is a request that was read. It is read once: whoever decides by it and the path itself see the same, so
// that no spelling of a body can mean one thing here and another there.
type Asked struct {
	asked
	memory shared
}

// Read reads a request's body. What Refit would have to guess about is Invalid.
func Read(endpoint string, body []byte) (*Asked, error) {
	a := &Asked{}
	if err := a.understand(endpoint, body); err != nil {
		return nil, lifecycle.Wrap(err, "read the request")
	}
	a.memory.users.Store(1)
	return a, nil
}

// ReadBuffer is Read for a buffer, which is the request's from then on, also with an error: it goes back with Free.
func ReadBuffer(endpoint string, b *Buffer) (*Asked, error) {
	a, err := Read(endpoint, b.bytes)
	if err != nil {
		b.Free()
		return nil, err
	}
	a.memory.buffer = b
	return a, nil
}

// Model is the name that the client gave as model; "" where it gave none.
func (a *Asked) Model() string { return a.model }

// Size is the request's length in bytes.
func (a *Asked) Size() int { return len(a.body.doc) }

// Stream says whether the answer is to come as a stream.
func (a *Asked) Stream() bool { return a.stream }

// Turns counts the assistant's messages so far.
func (a *Asked) Turns() int { return a.turns }

// First is what begins the conversation, as the client wrote it: the content of the first user message, of the first
// message where there is none, or the prompt. It serves to tell conversations apart: a client that sends its history
// again writes it in the same way.
func (a *Asked) First() []byte { return a.first }

// samplingKeys are what a client may set only where the release says so. The seed is not among them: it
// chooses among answers of one distribution.
var samplingKeys = []string{
	"temperature", "top_p", "top_k", "min_p", "stop", "presence_penalty", "frequency_penalty",
	"repetition_penalty", "logit_bias",
}

// ownKeys are all that Refit reads or changes.
var ownKeys = slices.Concat([]string{
	"model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "echo",
}, samplingKeys, diffusionKeys)

// understand reads a body. Whatever Refit would have to guess about is Invalid.
func (a *asked) understand(endpoint string, body []byte) (err error) {
	a.endpoint, a.lastUser = endpoint, -1
	if a.body, err = parseObject(body); err != nil {
		return err
	}
	if err := a.body.exact(ownKeys...); err != nil {
		return err
	}
	if at, ok := a.body.find("model"); ok {
		if a.model = text(at.of(body)); a.model == "" && !isNull(at.of(body)) {
			return lifecycle.Errorf(lifecycle.Invalid, "model: not a name")
		}
	}
	if endpoint == Embeddings {
		if _, ok := a.body.find("input"); !ok {
			return lifecycle.Errorf(lifecycle.Invalid, "input: missing; give the text to embed")
		}
		return nil
	}
	if a.stream, err = a.flag("stream"); err != nil {
		return err
	}
	if endpoint == Images {
		return a.readImage()
	}
	if at, ok := a.body.find("stream_options"); ok && !isNull(at.of(body)) {
		options, ok := a.body.child("stream_options")
		if !ok {
			return lifecycle.Errorf(lifecycle.Invalid, "stream_options: not an object, or a key stands twice in it")
		}
		options.decode("include_usage", &a.usage)
	}
	for _, key := range []string{"max_tokens", "max_completion_tokens"} {
		if _, _, err := a.count(key); err != nil {
			return err
		}
	}
	switch endpoint {
	case Chat:
		return a.readMessages()
	case Completions:
		return a.readPrompt()
	default:
		return lifecycle.Errorf(lifecycle.Invalid, "unknown endpoint %q", endpoint)
	}
}

func (a *asked) flag(key string) (bool, error) {
	at, ok := a.body.find(key)
	if !ok {
		return false, nil
	}
	switch string(at.of(a.body.doc)) {
	case "true":
		return true, nil
	case "false", "null":
		return false, nil
	}
	return false, lifecycle.Errorf(lifecycle.Invalid, "%s: give true or false", key)
}

// count reads a number of tokens; false means missing or null.
func (a *asked) count(key string) (int, bool, error) {
	at, ok := a.body.find(key)
	if !ok || isNull(at.of(a.body.doc)) {
		return 0, false, nil
	}
	n, err := strconv.Atoi(string(at.of(a.body.doc)))
	if err != nil || n < 0 {
		return 0, false, lifecycle.Errorf(lifecycle.Invalid, "%s: give a whole number from 0", key)
	}
	return n, true, nil
}

func (a *asked) readMessages() error {
	at, ok := a.body.find("messages")
	if !ok || a.body.doc[at.from] != '[' {
		return lifecycle.Errorf(lifecycle.Invalid, "messages: missing or not a list; give at least one message")
	}
	for each := range a.body.in.elements(at.from) {
		a.messages = append(a.messages, each)
	}
	if len(a.messages) == 0 {
		return lifecycle.Errorf(lifecycle.Invalid, "messages: empty; give at least one message")
	}
	var first, firstUser, lastUser object
	for i, m := range a.messages {
		if a.body.doc[m.from] != '{' {
			return lifecycle.Errorf(lifecycle.Invalid, "messages[%d]: not an object", i)
		}
		message, err := a.body.in.object(m.from)
		if err != nil {
			return lifecycle.Wrap(err, "messages[%d]", i)
		}
		if err := message.exact("role", "content"); err != nil {
			return lifecycle.Wrap(err, "messages[%d]", i)
		}
		at, _ := message.find("role")
		role := text(at.of(message.doc))
		switch role {
		case "":
			return lifecycle.Errorf(lifecycle.Invalid, "messages[%d].role: missing or not a text", i)
		case "assistant":
			a.turns++
		case "user":
			if a.lastUser, lastUser = i, message; firstUser.doc == nil {
				firstUser = message
			}
		}
		if i == 0 {
			first = message
		}
	}
	if firstUser.doc == nil {
		a.first = first.raw("content")
		return nil
	}
	a.query, a.first = sourceOf(lastUser), firstUser.raw("content")
	return nil
}

// source is a text that is decoded only where somebody wants to read it: long prompts are many.
type source struct {
	raw   []byte   // as JSON, where it is one string
	parts []string // else
}

func (s source) text() string {
	if s.raw != nil {
		return text(s.raw)
	}
	return strings.Join(s.parts, "\n")
}

// bounded is the text's beginning, n bytes of it at most.
func (s source) bounded(n int) string {
	if s.raw != nil {
		return decoded(s.raw, n)
	}
	return bounded(s.text(), n)
}

// sourceOf gives the text of a message, which is a string or a list of parts.
func sourceOf(message object) source {
	at, ok := message.find("content")
	if !ok || message.doc[at.from] != '[' {
		return source{raw: at.of(message.doc)}
	}
	parts, _ := partTexts(message.in, at.from)
	return source{parts: parts}
}

// partTexts gives the texts of a list of parts; false where there is none with a text.
func partTexts(r *reader, from int) (parts []string, ok bool) {
	for part := range r.elements(from) {
		if r.doc[part.from] != '{' {
			continue
		}
		if o, err := r.object(part.from); err == nil {
			if raw := o.raw("text"); len(raw) > 0 && raw[0] == '"' {
				parts = append(parts, text(raw))
			}
		}
	}
	return parts, len(parts) > 0
}

func (a *asked) readPrompt() error {
	at, ok := a.body.find("prompt")
	if !ok || isNull(at.of(a.body.doc)) {
		return lifecycle.Errorf(lifecycle.Invalid, "prompt: missing; give the text to go on from")
	}
	a.query, a.first = source{raw: at.of(a.body.doc)}, at.of(a.body.doc)
	echo, err := a.flag("echo")
	if err != nil {
		return err
	}
	n, given, _ := a.count("max_tokens") // its form was checked before
	a.score = echo && given && n == 0
	return nil
}

// readImage reads what an image is asked for by.
func (a *asked) readImage() error {
	if a.stream {
		return lifecycle.Errorf(lifecycle.Invalid, "stream: images come whole; leave it out")
	}
	at, ok := a.body.find("prompt")
	if !ok || a.body.doc[at.from] != '"' {
		return lifecycle.Errorf(lifecycle.Invalid, "prompt: missing or not a text; say what the image shows")
	}
	a.query, a.first = source{raw: at.of(a.body.doc)}, at.of(a.body.doc)
	return nil
}

// assemble gives the changes that make the body for the model server, in order.
func (b *Bundle) assemble(a *asked, model string, passages []Passage) ([]edit, error) {
	edits, err := b.changes(a, model, passages)
	sortEdits(edits)
	return edits, err
}

func (b *Bundle) changes(a *asked, model string, passages []Passage) ([]edit, error) {
	edits := append(make([]edit, 0, usualEdits), a.body.set("model", quoted(model)))
	if a.endpoint == Embeddings {
		return edits, nil
	}
	if a.stream {
		edits = append(edits, a.meter())
	}
	if a.endpoint == Images {
		return append(edits, b.diffusion(a)...), nil
	}
	edits = append(edits, b.parameters(a)...)
	if a.endpoint == Chat {
		more, err := b.messages(a, passages)
		if err != nil {
			return nil, err
		}
		edits = append(edits, more...)
	}
	return edits, nil
}

// usualEdits are as many as most requests need.
const usualEdits = 6

// meter asks a stream for its usage.
func (a *asked) meter() edit {
	if options, ok := a.body.child("stream_options"); ok {
		return options.set("include_usage", []byte("true"))
	}
	return a.body.set("stream_options", []byte(`{"include_usage":true}`))
}

// parameters puts the release's sampling parameters in place of the client's. Without Override the
// smaller number of tokens holds, so a client may always ask for less; a parameter that the release does
// not set is the server's default, so the client's is dropped. A score generates nothing and stays as it is.
func (b *Bundle) parameters(a *asked) []edit {
	p := b.Release.Parameters
	if a.score {
		return nil
	}
	var edits []edit
	tokens := "max_tokens"
	if _, given, _ := a.count("max_completion_tokens"); given {
		tokens = "max_completion_tokens"
	}
	asked, given, _ := a.count(tokens)
	if p.MaxTokens > 0 && (!given || !p.Override && asked > p.MaxTokens) {
		edits = append(edits, a.body.set(tokens, strconv.AppendInt(nil, int64(p.MaxTokens), 10)))
	}
	if both, twice, _ := a.count("max_tokens"); twice && tokens != "max_tokens" && p.MaxTokens > 0 && !p.Override && both > p.MaxTokens {
		edits = append(edits, a.body.set("max_tokens", strconv.AppendInt(nil, int64(p.MaxTokens), 10)))
	}
	return append(edits, a.own(samplingKeys, b.sampling, p.Override)...)
}

// parameter is one that a release sets, as JSON.
type parameter struct {
	key   string
	value []byte
}

// samplingOf gives what a release sets of samplingKeys, in their order.
func samplingOf(p lifecycle.Parameters) (own []parameter) {
	if p.Temperature != nil {
		own = append(own, parameter{"temperature", number(*p.Temperature)})
	}
	if p.TopP != nil {
		own = append(own, parameter{"top_p", number(*p.TopP)})
	}
	if len(p.Stop) > 0 {
		stops := make([][]byte, len(p.Stop))
		for i, s := range p.Stop {
			stops[i] = quoted(s)
		}
		own = append(own, parameter{"stop", append(append([]byte("["), bytes.Join(stops, []byte(","))...), ']')})
	}
	return own
}

// diffusionKeys are the parameters of a diffusion model by the names that servers know them by, the ones that a
// release sets first.
var diffusionKeys = []string{
	"num_inference_steps", "guidance_scale", "scheduler", "steps", "step", "guidance", "cfg_scale", "true_cfg_scale", "sampler",
}

// diffusion puts the release's diffusion parameters in place of the client's, as parameters does for sampling: how
// an image is made is a release's business, and the steps are what its latency is made of.
func (b *Bundle) diffusion(a *asked) []edit {
	p := b.Release.Parameters
	var own []parameter
	if d := p.Diffusion; d != nil {
		own = append(own, parameter{"num_inference_steps", strconv.AppendInt(nil, int64(d.Steps), 10)}, parameter{"guidance_scale", number(d.Guidance)})
		if d.Scheduler != "" {
			own = append(own, parameter{"scheduler", quoted(d.Scheduler)})
		}
	}
	return a.own(diffusionKeys, own, p.Override)
}

// own gives the edits that put the release's values in place of the client's. A value that the release does not set
// is the server's default, so the client's is dropped. Where clients may override, theirs stay.
func (a *asked) own(keys []string, values []parameter, override bool) []edit {
	var edits []edit
	for _, v := range values {
		if _, theirs := a.body.find(v.key); !theirs || !override {
			edits = append(edits, a.body.set(v.key, v.value))
		}
	}
	if override {
		return edits
	}
	var dropped []string
	for _, m := range a.body.members {
		ours := func(v parameter) bool { return v.key == m.key }
		if slices.Contains(keys, m.key) && !slices.ContainsFunc(values, ours) {
			dropped = append(dropped, m.key)
		}
	}
	if len(dropped) == 0 {
		return edits
	}
	return append(edits, a.body.drop(dropped...)...)
}

func number(f float64) []byte { return strconv.AppendFloat(nil, f, 'g', -1, 64) }

// messages inserts the system message first and the passages before the last user message.
func (b *Bundle) messages(a *asked, passages []Passage) ([]edit, error) {
	var edits []edit
	insert := func(before int, message []byte) {
		at := a.messages[before].from
		edits = append(edits, edit{span{at, at}, message})
	}
	if b.system != nil {
		insert(0, b.system)
	}
	if b.context == nil || len(passages) == 0 || a.lastUser < 0 {
		return edits, nil
	}
	rendered, err := b.render(passages)
	if err != nil {
		return nil, err
	}
	insert(a.lastUser, systemMessage(rendered))
	return edits, nil
}

// systemMessage gives a message and the comma after it.
func systemMessage(content string) []byte {
	return append(append([]byte(`{"role":"system","content":`), quoted(content)...), '}', ',')
}

// render fills the context template.
func (b *Bundle) render(passages []Passage) (string, error) {
	var out strings.Builder
	if err := b.context.Execute(&out, struct{ Passages []Passage }{passages}); err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "fill the context template of release %s: %w", b.ID.Short(), err)
	}
	return out.String(), nil
}

// requestWith is a small body that Refit itself sends; v is always something that can be encoded.
func requestWith(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	return raw, lifecycle.Wrap(err, "encode a request")
}
