package answer

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	// MaxHold is how many bytes of a stream a deny-pattern holds back at most. Patterns whose longest match
	// is shorter hold back that much and the character after it.
	MaxHold = 512

	mask          = "[removed]"                 // what stands in place of a masked match
	defaultNotice = "This answer was withheld." // where a refusing rule brings no notice

	actionCount  = "count"
	actionMark   = "mark"
	actionRefuse = "refuse"

	finishLength = "length"
	finishFilter = "content_filter"
)

// chain is a release's rules, compiled.
type chain struct {
	rules []rule
	hides bool // some rule hides part of a text
}

type rule struct {
	lifecycle.Rule
	name    string // as Result.Guardrails spells it
	limit   int    // of max-length, in characters
	pattern *regexp.Regexp
	after   *regexp.Regexp          // pattern, as group 1, anywhere but at the first character
	longest int                     // bytes of pattern's longest match; MaxHold where it has no bound under that
	open    bool                    // the longest match has no bound under MaxHold
	pii     lifecycle.PersonalForms // that are looked for
}

func newChain(rules []lifecycle.Rule) (*chain, error) {
	c := &chain{}
	for i, declared := range rules {
		r := rule{Rule: declared, name: declared.Kind + "[" + strconv.Itoa(i) + "]"}
		if r.Notice == "" {
			r.Notice = defaultNotice
		}
		if err := lifecycle.CheckRules("post_process", rules[i:i+1]).Err("rules"); err != nil {
			return nil, lifecycle.Wrap(err, "post_process[%d]", i)
		}
		switch declared.Kind {
		case lifecycle.RuleMaxLength:
			r.limit, _ = strconv.Atoi(declared.Value) // its form was checked
		case lifecycle.RulePII:
			r.pii = lifecycle.FormsOf(lifecycle.PIIOf(declared))
			c.hides = c.hides || r.Action != actionCount
		case lifecycle.RuleDenyPattern:
			pattern, err := regexp.Compile(declared.Value)
			if err != nil {
				return nil, lifecycle.Errorf(lifecycle.Invalid, "post_process[%d]: not an RE2 pattern", i)
			}
			parsed, err := syntax.Parse(declared.Value, syntax.Perl)
			if err != nil {
				return nil, lifecycle.Errorf(lifecycle.Invalid, "post_process[%d]: not an RE2 pattern", i)
			}
			after, err := regexp.Compile(`\A(?s:.)(?s:.*?)(` + parsed.String() + `)`)
			if err != nil {
				return nil, lifecycle.Errorf(lifecycle.Invalid, "post_process[%d]: too large a pattern", i)
			}
			r.pattern, r.after, r.longest = pattern, after, longestMatch(parsed)
			if r.longest > MaxHold {
				r.longest, r.open = MaxHold, true
			}
			c.hides = true
		}
		c.rules = append(c.rules, r)
	}
	return c, nil
}

// longestMatch bounds the bytes that a match can have; anything over MaxHold means "more than that".
func longestMatch(re *syntax.Regexp) int {
	sum := func(list []*syntax.Regexp, join func(a, b int) int) int {
		n := 0
		for _, sub := range list {
			n = min(join(n, longestMatch(sub)), MaxHold+1)
		}
		return n
	}
	add := func(a, b int) int { return a + b }
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return min(len(re.Rune)*utf8.UTFMax, MaxHold+1)
		}
		return min(len(string(re.Rune)), MaxHold+1)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return utf8.UTFMax
	case syntax.OpCapture, syntax.OpQuest, syntax.OpConcat:
		return sum(re.Sub, add)
	case syntax.OpAlternate:
		return sum(re.Sub, func(a, b int) int { return max(a, b) })
	case syntax.OpRepeat:
		if re.Max >= 0 {
			return min(re.Max*sum(re.Sub, add), MaxHold+1)
		}
		return MaxHold + 1
	case syntax.OpStar, syntax.OpPlus:
		return MaxHold + 1
	default: // assertions and the empty match take no bytes
		return 0
	}
}

// processor runs a chain over one choice's text as it comes.
type processor struct {
	stages    []stage
	rules     []rule
	stoppedAt int      // place of the rule that stopped the text
	stopped   string   // finish reason of a cut or a refusal; "" while the text goes on
	refused   bool     // a rule put its notice in place of the text
	closed    bool     // the last piece came
	marked    bool     // the text passed, and its end says that a rule minds it
	denied    bool     // the model itself refused
	noText    bool     // the answer is a tool call
	hits      []string // names of the rules that minded the text, each once
	sent      bool     // some text has come out
}

// stage is one rule at work. hits are the names by which it is counted; ok is false when the rule ends the text here.
type stage interface {
	feed(s string, last bool) (out string, hits []string, ok bool)
}

func (c *chain) start() *processor {
	p := &processor{rules: c.rules}
	for _, r := range c.rules {
		switch r.Kind {
		case lifecycle.RuleTrim:
			p.stages = append(p.stages, &trimStage{})
		case lifecycle.RuleMaxLength:
			p.stages = append(p.stages, &lengthStage{left: r.limit, name: r.name})
		case lifecycle.RulePII:
			p.stages = append(p.stages, &piiStage{name: r.name, scan: r.pii.Scan(r.Action != actionCount)})
		case lifecycle.RuleRefusal:
			p.stages = append(p.stages, newPhraseStage(r.name, r.Value))
		case lifecycle.RuleJSON:
			p.stages = append(p.stages, &jsonStage{name: r.name, holds: r.Action == actionRefuse, none: &p.noText})
		default:
			p.stages = append(p.stages, &denyStage{rule: r})
		}
	}
	return p
}

// ending gives the finish reason of a choice that the model ended with one.
func (p *processor) ending(finish string) string {
	switch {
	case p.stopped != "":
		return p.stopped
	case p.marked && finish != "":
		return finishFilter
	}
	return finish
}

// feed takes the next piece of text and gives what may be sent. After last, or once stopped, it gives nothing more;
// rules before the one that stopped the text see the rest of it all the same, so that they count what they would count
// in a text that came whole.
func (p *processor) feed(s string, last bool) string {
	if p.closed {
		return ""
	}
	p.closed = last
	over, end := p.stopped != "", len(p.stages)
	if over {
		end = p.stoppedAt
	}
	for i, stage := range p.stages[:end] {
		out, hits, ok := stage.feed(s, last)
		p.count(p.rules[i], hits)
		if len(hits) > 0 && p.rules[i].Action == actionRefuse {
			p.stoppedAt = i
			if over {
				return ""
			}
			p.stopped, p.refused = finishFilter, true
			if p.sent {
				return "\n" + p.rules[i].Notice
			}
			return p.rules[i].Notice
		}
		if !ok {
			if p.stopped == "" {
				p.stopped = finishLength
				p.stoppedAt = i
			}
			last = true // what later rules hold back comes out with this piece
			if over {
				p.stoppedAt = i
				return ""
			}
		}
		s = out
	}
	if over {
		return ""
	}
	p.sent = p.sent || s != ""
	return s
}

// count keeps what a rule minded.
func (p *processor) count(r rule, hits []string) {
	for _, hit := range hits {
		if !slices.Contains(p.hits, hit) {
			p.hits = append(p.hits, hit)
		}
	}
	p.denied = p.denied || len(hits) > 0 && r.Kind == lifecycle.RuleRefusal
	p.marked = p.marked || len(hits) > 0 && r.Action == actionMark
}

// whole runs the chain over a whole text.
func (c *chain) whole(s string) (string, *processor) {
	p := c.start()
	return p.feed(s, true), p
}

// trimStage takes white space from both ends.
type trimStage struct {
	begun bool
	held  string // white space that may turn out to be the end
}

func (t *trimStage) feed(s string, _ bool) (string, []string, bool) {
	if !t.begun {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		t.begun = s != ""
	}
	s = t.held + s
	kept := strings.TrimRightFunc(s, unicode.IsSpace)
	t.held = s[len(kept):]
	return kept, nil, true
}

// lengthStage ends a text after a number of characters.
type lengthStage struct {
	left int
	name string
}

func (l *lengthStage) feed(s string, _ bool) (string, []string, bool) {
	for i := range s {
		if l.left == 0 {
			return s[:i], []string{l.name}, false
		}
		l.left--
	}
	return s, nil, true
}

// denyStage replaces what its pattern matches. Every match that starts more than the longest match before
// the end of what is known is seen whole, so it can be decided; the rest is held back.
type denyStage struct {
	rule
	buf    string // one character that was sent, for assertions like \b, and what is held back
	done   int    // bytes of buf that were sent
	forced bool   // the last thing sent was the mask of a match that may still grow
}

func (d *denyStage) feed(s string, last bool) (string, []string, bool) {
	d.buf += s
	limit := len(d.buf)
	if !last {
		limit = max(d.done, limit-d.longest-utf8.UTFMax)
		for limit > d.done && !utf8.RuneStart(d.buf[limit]) {
			limit--
		}
	}
	var out strings.Builder
	hit, at := false, d.done
	for from, to, ok := d.match(at); ok; from, to, ok = d.match(at) {
		growing := !last && d.open && to > len(d.buf)-utf8.UTFMax
		tooLong := to-from > 2*MaxHold
		if !last && from >= limit || growing && !tooLong {
			limit = min(limit, from)
			break
		}
		out.WriteString(d.buf[at:from])
		if !d.forced || from > at {
			out.WriteString(mask)
		}
		hit, at, d.forced = true, to, growing
	}
	if limit > at {
		out.WriteString(d.buf[at:limit])
		at, d.forced = limit, false
	}
	_, context := utf8.DecodeLastRuneInString(d.buf[:at])
	d.buf, d.done = d.buf[at-context:], context
	if hit {
		return out.String(), []string{d.name}, true
	}
	return out.String(), nil, true
}

// match finds the first match in buf that takes some text and starts at a byte or after it. The character before
// that byte is there for assertions only: a match that starts with it would take it for the start of the text.
func (d *denyStage) match(at int) (from, to int, ok bool) {
	for at < len(d.buf) {
		_, context := utf8.DecodeLastRuneInString(d.buf[:at])
		start := at - context
		m := d.pattern.FindStringIndex(d.buf[start:])
		if m != nil && context > 0 && m[0] == 0 {
			if m = d.after.FindStringSubmatchIndex(d.buf[start:]); m != nil {
				m = m[2:]
			}
		}
		if m == nil {
			return 0, 0, false
		}
		if m[0] < m[1] {
			return start + m[0], start + m[1], true
		}
		_, next := utf8.DecodeRuneInString(d.buf[start+m[0]:])
		at = start + m[0] + max(next, 1)
	}
	return 0, 0, false
}
