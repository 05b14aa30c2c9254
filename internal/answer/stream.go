package answer

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"

	"github.com/refitml/refit/internal/lifecycle"
)

// done is the data of the event that ends a stream well.
const done = "[DONE]"

// flow is a stream on its way to the client.
type flow struct {
	*run
	events  *events
	choices map[int]*processor
	ended   map[int]bool // choices whose finish reason was sent
	seen    bool         // a chunk of the answer came
	last    alike
}

// stream passes on a stream event by event.
func (r *run) stream(response *http.Response) error {
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return lifecycle.Errorf(lifecycle.Unavailable, "the model server was asked for a stream and answered %q", kind)
	}
	f := &flow{
		run:     r,
		events:  newEvents(response.Body, r.path.settings.MaxEvent),
		choices: map[int]*processor{},
		ended:   map[int]bool{},
	}
	for {
		if !f.events.ready() { // nothing waits in here for what the model server has not said yet
			if err := f.flush(); err != nil {
				return err
			}
		}
		e, err := f.events.next()
		if err != nil {
			return errors.Join(f.brokeOff(err), f.flush())
		}
		if !e.any {
			if f.result.Started { // comments keep a connection alive; before the start nothing is sent
				if err := f.put(e.raw); err != nil {
					return err
				}
			}
			continue
		}
		if string(e.data) == done {
			return f.finish(e)
		}
		if err := f.pass(e); err != nil {
			return err
		}
	}
}

// brokeOff judges the end of a stream that brought no [DONE] with its empty line.
func (f *flow) brokeOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) && string(f.events.leftOver.data) == done {
		return f.finish(event{raw: []byte("data: " + done + "\n\n")})
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return lifecycle.Errorf(lifecycle.Unavailable, "the model server's stream broke off: %w", err)
}

// finish ends a stream that ended well. Text that rules still hold back was due with the finish reason;
// where a server sent none, it comes now.
func (f *flow) finish(e event) error {
	if !f.seen {
		return lifecycle.Errorf(lifecycle.Unavailable, "the model server's stream ended before it began")
	}
	for _, index := range sortedIndexes(f.choices) {
		p := f.choices[index]
		if rest := f.process(p, "", true); rest != "" && !f.ended[index] {
			f.keepChoice(index, rest)
			if err := f.put(f.chunk(object{}, index, rest, p.ending("stop"))); err != nil {
				return err
			}
		}
		f.note(p)
	}
	return f.send(e.raw)
}

// pass sends one event on, cleaned.
func (f *flow) pass(e event) error {
	if said := f.last.text(&f.reader, e.data); said != nil {
		if f.last.index == 0 {
			f.keepRaw(said)
		}
		return f.put(e.raw)
	}
	body, err := f.reader.parse(e.data)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "an event of the model server's stream: %s", err.Error())
	}
	if _, failed := body.find("error"); failed {
		return f.failed(e)
	}
	metered := f.meter(body)
	choices, err := choicesOf(f.list[:0], body)
	if err != nil {
		return err
	}
	f.list = choices
	f.seen = true
	var edits []edit
	if metered && !f.asked.usage { // Refit asked for it, the client did not
		if len(choices) == 0 {
			return nil
		}
		edits = body.drop("usage")
	}
	out, err := f.clean(e, body, choices, edits)
	if err != nil || len(out) == 0 {
		return err
	}
	if !f.result.Started {
		f.begin(streamHead)
	}
	if !metered && len(choices) == 1 && f.onlySays(choices[0]) {
		f.last.note(e.data, choices[0])
	}
	return f.put(out)
}

// onlySays says whether all that a choice's part does is to bring a text that no rule touches.
func (f *flow) onlySays(c choice) bool {
	return c.content.to > 0 && c.says && c.finish == "" && len(f.choices[c.index].stages) == 0
}

// failed passes a failure inside a stream on: before the start as an error of its own, later as it came,
// and the stream does not end well.
func (f *flow) failed(e event) error {
	if f.result.Started {
		if err := f.send(e.raw); err != nil {
			return err
		}
	}
	return lifecycle.Errorf(lifecycle.Unavailable, "the model server reported a failure in its stream")
}

// clean runs the rules over one chunk and gives the events to send: none, the chunk itself byte by byte,
// or the chunk with other text. A choice that a rule has stopped says so at once; what the model still
// says in it is thrown away.
func (f *flow) clean(e event, body object, choices []choice, edits []edit) ([]byte, error) {
	var before, after []byte
	var gone []span
	for _, c := range choices {
		p, err := f.rules(c.index)
		if err != nil {
			return nil, err
		}
		if p.stopped != "" {
			f.process(p, text(c.content.of(body.doc)), c.finish != "") // it gives nothing, and counts
			gone = append(gone, c.at)
			continue
		}
		if c.says && f.result.Latency.FirstToken == 0 {
			f.result.Latency.FirstToken = f.since(f.sent)
		}
		if len(p.stages) == 0 {
			f.leave(c, body)
			if c.finish != "" {
				f.endChoice(c.index, c.finish, p)
			}
			continue
		}
		content := ""
		if c.content.to > 0 {
			content = text(c.content.of(body.doc))
		}
		p.noText = c.callsTool()
		cleaned := f.process(p, content, c.finish != "")
		f.keepChoice(c.index, cleaned)
		switch {
		case cleaned == content:
		case c.content.to > 0:
			edits = append(edits, edit{c.content, quoted(cleaned)})
		default: // held back until now, and this chunk has no place for it
			before = append(before, f.chunk(body, c.index, cleaned, "")...)
		}
		finish := p.ending(c.finish)
		if finish != c.finish {
			if c.finishAt.to > 0 {
				edits = append(edits, edit{c.finishAt, quoted(finish)})
			} else {
				after = append(after, f.chunk(body, c.index, "", finish)...)
			}
		}
		hidden, err := f.hide(c)
		if err != nil {
			return nil, err
		}
		edits = append(edits, hidden...)
		if finish != "" {
			f.endChoice(c.index, finish, p)
		}
	}
	switch {
	case len(gone) > 0 && len(gone) == len(choices) && !f.shows(body):
		return nil, nil
	case len(gone) > 0:
		all := make([]span, len(choices))
		for i, c := range choices {
			all[i] = c.at
		}
		edits = append(edits, without(all, func(i int) bool { return slices.Contains(gone, all[i]) })...)
	case len(edits) == 0 && len(before) == 0 && len(after) == 0:
		return e.raw, nil
	case len(edits) == 0:
		return slices.Concat(before, e.raw, after), nil
	}
	return slices.Concat(before, e.with(apply(e.data, edits)), after), nil
}

// leave keeps what a choice says that no rule touches.
func (f *flow) leave(c choice, body object) {
	if c.index == 0 && c.content.to > 0 {
		f.keepRaw(c.content.of(body.doc))
	}
}

// shows says whether a chunk has a usage that the client asked for.
func (f *flow) shows(body object) bool {
	at, ok := body.find("usage")
	return ok && f.asked.usage && !isNull(at.of(body.doc))
}

// rules gives the rules at work on one choice.
func (f *flow) rules(index int) (*processor, error) {
	p, ok := f.choices[index]
	if !ok {
		if len(f.choices) >= maxChoices {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "the model server's stream has more than %d choices", maxChoices)
		}
		p = f.start()
		f.choices[index] = p
	}
	return p, nil
}

// endChoice keeps how a choice ended.
func (f *flow) endChoice(index int, finish string, p *processor) {
	f.ended[index] = true
	f.note(p)
	if index == 0 {
		f.result.Finish = finish
	}
}

// maxChoices bounds what is kept of a stream; servers stop far below.
const maxChoices = 128

func (f *flow) keepChoice(index int, s string) {
	if index == 0 {
		f.keep(s)
	}
}

// chunk makes an event of Refit's own in the place of a choice, with the identity of like, where there is one.
func (f *flow) chunk(like object, index int, content, finish string) []byte {
	out := []byte("data: {")
	for _, key := range []string{"id", "object", "created", "model"} {
		if at, ok := like.find(key); ok {
			out = append(append(append(append(out, quoted(key)...), ':'), at.of(like.doc)...), ',')
		}
	}
	out = append(strconv.AppendInt(append(out, `"choices":[{"index":`...), int64(index), 10), ',')
	if f.asked.endpoint == Chat {
		out = append(append(append(out, `"delta":{"content":`...), quoted(content)...), '}')
	} else {
		out = append(append(out, `"text":`...), quoted(content)...)
	}
	out = append(out, `,"finish_reason":`...)
	if finish == "" {
		out = append(out, "null"...)
	} else {
		out = append(out, quoted(finish)...)
	}
	return append(out, "}]}\n\n"...)
}

func sortedIndexes(m map[int]*processor) []int {
	indexes := make([]int, 0, len(m))
	for i := range m {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	return indexes
}
