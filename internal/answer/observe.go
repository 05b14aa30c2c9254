package answer

import (
	"strings"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// phraseStage notices phrases by which a model refuses, whatever their case, white space and apostrophes. The text passes.
type phraseStage struct {
	name    string
	phrases []string // as lifecycle.Simplified writes them
	longest int
	tail    string // of the simplified text
}

func newPhraseStage(name, value string) *phraseStage {
	p := &phraseStage{name: name, phrases: lifecycle.Phrases(value)}
	for _, phrase := range p.phrases {
		p.longest = max(p.longest, len(phrase))
	}
	return p
}

func (p *phraseStage) feed(s string, _ bool) (string, []string, bool) {
	p.tail = lifecycle.Simplified(p.tail, s)
	var hits []string
	for _, phrase := range p.phrases {
		if strings.Contains(p.tail, phrase) {
			hits = []string{p.name}
		}
	}
	if cut := len(p.tail) - p.longest; cut > 0 {
		for !utf8.RuneStart(p.tail[cut]) {
			cut++
		}
		p.tail = p.tail[cut:]
	}
	return s, hits, true
}

// maxJSON bounds what is kept of a text to see whether it is JSON, in bytes. A longer one cannot be told to be.
const maxJSON = 256 << 10

// jsonStage sees whether the whole text is one JSON value. Where another text would be refused, nothing passes until
// that is known.
type jsonStage struct {
	name  string
	holds bool
	none  *bool // the answer is a tool call and has no text
	text  []byte
	over  bool
}

func (j *jsonStage) feed(s string, last bool) (string, []string, bool) {
	if j.over {
		return s, nil, true
	}
	j.text = append(j.text, s...)
	j.over = len(j.text) > maxJSON
	switch {
	case j.over || last && !(&reader{doc: j.text}).valid() && (len(j.text) > 0 || !*j.none):
		j.over = true
		return s, []string{j.name}, true
	case j.holds && last:
		return string(j.text), nil, true
	case j.holds:
		return "", nil, true
	}
	return s, nil, true
}
