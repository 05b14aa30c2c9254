package feedback

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// Item is one piece of feedback with the interaction that it hangs on.
type Item struct {
	ID          string
	Interaction string
	Client      string // "" for the unnamed, who share one share
	Release     lifecycle.Digest
	Kind        string // one of lifecycle.FeedbackKinds
	Reason      string
	Correction  string
	Input       string // what the user asked; "" where content is not captured
	Output      string // what the user read
	At          time.Time
}

// Example is one thing to learn from.
type Example struct {
	ID       string           `json:"id"` // of the feedback it came from
	Kind     string           `json:"kind"`
	Prompt   string           `json:"prompt"`
	Chosen   string           `json:"chosen"`
	Rejected string           `json:"rejected,omitempty"` // for preference training; "" where nothing was rejected
	Reason   string           `json:"reason,omitempty"`
	Release  lifecycle.Digest `json:"release"`
}

// Kinds of examples.
const (
	CorrectionExample = "correction" // a user said what the answer should have been
	ApprovalExample   = "approval"   // a user liked the answer
)

// Deficit is what users report, counted: it opens a ladder record.
type Deficit struct {
	Name    string `json:"name"` // reason code; "unspecified" without one, "other" for prose
	Items   int    `json:"items"`
	Clients int    `json:"clients"`
}

// Reasons for dropping an item.
const (
	DroppedTwice         = "sent-twice"
	DroppedUnknown       = "unknown-kind"
	DroppedNoContent     = "no-content"
	DroppedBroken        = "broken-text"
	DroppedTooLong       = "too-long"
	DroppedSecret        = "secret"
	DroppedFlood         = "flood"
	DroppedContradiction = "contradiction"
	DroppedEqual         = "equal-example"
	DroppedShare         = "client-share"
	DroppedKnown         = "contaminated"     // it holds a case of a suite
	DroppedNoTarget      = "nothing-to-learn" // thumbs down and abandonment say what was wrong, not what is right
)

// Settings of curation. The zero value works.
type Settings struct {
	MaxText  int // bytes of one text; default 16 KiB
	Flood    int // times that one client may say the same; default 3
	SameText int // different prompts that one text may correct; default 3

	Known func(Example) bool // says whether an example holds a case of a suite; nil: none does
}

// Curated is what became of feedback.
type Curated struct {
	Examples []Example
	Masked   int            // items in which personal data was masked
	Dropped  map[string]int // by reason
	Counts   map[string]int // all items by kind, each ID once
	Deficits []Deficit      // most reported first
	Enough   bool           // examples are at least the policy's minimum
	Reason   string         // why enough or not
}

// Curate turns items into examples. The order of items does not matter. Policy bounds one client's share
// (0 means no bound) and names the smallest dataset.
func Curate(items []Item, policy lifecycle.FeedbackPolicy, settings Settings) Curated {
	setDefault(&settings.MaxText, 16<<10)
	setDefault(&settings.Flood, 3)
	setDefault(&settings.SameText, 3)
	c := &curation{settings: settings, scrub: newScrubber(), out: Curated{Dropped: map[string]int{}, Counts: map[string]int{}}}

	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID))
	})
	items = c.known(items)
	c.out.Deficits = deficits(items)
	items = c.clean(items)
	items = c.dropFloods(items)
	items = c.dropContradictions(items)
	c.out.Examples = c.share(c.examples(items), policy.MaxShare)

	n := len(c.out.Examples)
	c.out.Enough = n > 0 && n >= policy.MinItems
	c.out.Reason = fmt.Sprintf("%d of %d items give an example; the policy asks for %d", n, sum(c.out.Counts), max(1, policy.MinItems))
	if !c.out.Enough && c.out.Dropped[DroppedShare] > 0 {
		c.out.Reason += fmt.Sprintf("; %d were left out because one client may have at most %g of the dataset", c.out.Dropped[DroppedShare], policy.MaxShare)
	}
	return c.out
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

func sum(m map[string]int) (n int) {
	for v := range maps.Values(m) {
		n += v
	}
	return n
}

type curation struct {
	settings Settings
	scrub    *scrubber
	out      Curated
}

// keep filters items; why names the reason to drop one, "" to keep it.
func (c *curation) keep(items []Item, why func(Item) string) []Item {
	return slices.DeleteFunc(items, func(i Item) bool {
		reason := why(i)
		if reason != "" {
			c.out.Dropped[reason]++
		}
		return reason != ""
	})
}

func (c *curation) known(items []Item) []Item {
	seen := map[string]bool{}
	return c.keep(items, func(i Item) string {
		switch {
		case seen[i.ID]:
			return DroppedTwice
		case !slices.Contains(lifecycle.FeedbackKinds(), i.Kind):
			return DroppedUnknown
		}
		seen[i.ID] = true
		c.out.Counts[i.Kind]++
		return ""
	})
}

func (c *curation) clean(items []Item) []Item {
	items = c.keep(items, func(i Item) string {
		texts := []string{i.Input, i.Output, i.Correction}
		switch {
		case i.Kind == "thumbs-down" || i.Kind == "abandoned":
			// They stay until contradictions are found.
		case strings.TrimSpace(i.Input) == "" || strings.TrimSpace(i.target()) == "":
			return DroppedNoContent
		}
		for _, text := range texts {
			switch {
			case !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\ufffd"):
				return DroppedBroken
			case len(text) > c.settings.MaxText:
				return DroppedTooLong
			case c.scrub.secret(text):
				return DroppedSecret
			}
		}
		return ""
	})
	for n := range items {
		i, before := &items[n], items[n]
		i.Input, i.Output, i.Correction = c.scrub.mask(i.Input), c.scrub.mask(i.Output), c.scrub.mask(i.Correction)
		if *i != before {
			c.out.Masked++
		}
	}
	return items
}

// target is what an item says would be right.
func (i Item) target() string {
	switch i.Kind {
	case "correction":
		return i.Correction
	case "thumbs-up":
		return i.Output
	}
	return ""
}

// fold is a text without what does not make it another: case and white space.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

func (c *curation) dropFloods(items []Item) []Item {
	said := map[string]int{}                 // client and everything it says
	corrects := map[string]map[string]bool{} // correction to prompts
	key := func(i Item) string {
		return strings.Join([]string{i.Client, i.Kind, fold(i.Input), fold(i.target())}, "\x00")
	}
	text := func(i Item) string { return i.Client + "\x00" + fold(i.Correction) }
	texts := map[string]int{} // client and correction
	for _, i := range items {
		said[key(i)]++
		if i.Kind != "correction" {
			continue
		}
		texts[text(i)]++
		prompts := corrects[fold(i.Correction)]
		if prompts == nil {
			prompts = map[string]bool{}
			corrects[fold(i.Correction)] = prompts
		}
		prompts[fold(i.Input)] = true
	}
	return c.keep(items, func(i Item) string {
		flood := said[key(i)] > c.settings.Flood && i.target() != ""
		if i.Kind == "correction" {
			flood = flood || texts[text(i)] > c.settings.Flood || len(corrects[fold(i.Correction)]) > c.settings.SameText
		}
		if flood {
			return DroppedFlood
		}
		return ""
	})
}

// dropContradictions drops approvals of an answer that others, or the same user, reject, and corrections of
// one prompt that differ where no correction has more clients behind it than every other.
func (c *curation) dropContradictions(items []Item) []Item {
	pair := func(i Item) string { return fold(i.Input) + "\x00" + fold(i.Output) }
	up, down := map[string]bool{}, map[string]bool{}
	interactionUp, interactionDown := map[string]bool{}, map[string]bool{}
	backers := map[string]map[string]map[string]bool{} // prompt, correction, client
	for _, i := range items {
		switch i.Kind {
		case "thumbs-up":
			up[pair(i)], interactionUp[i.Interaction] = true, true
		case "thumbs-down", "correction":
			down[pair(i)], interactionDown[i.Interaction] = true, true
		}
		if i.Kind == "correction" {
			prompt, correction := fold(i.Input), fold(i.Correction)
			if backers[prompt] == nil {
				backers[prompt] = map[string]map[string]bool{}
			}
			if backers[prompt][correction] == nil {
				backers[prompt][correction] = map[string]bool{}
			}
			backers[prompt][correction][i.Client] = true
		}
	}
	winner := map[string]string{} // prompt to its correction
	for prompt, corrections := range backers {
		best, second := 0, 0
		for correction, clients := range corrections {
			switch n := len(clients); {
			case n > best:
				best, second, winner[prompt] = n, best, correction
			case n > second:
				second = n
			}
		}
		if best == second {
			delete(winner, prompt)
		}
	}
	return c.keep(items, func(i Item) string {
		contradicted := interactionUp[i.Interaction] && interactionDown[i.Interaction] || i.Input != "" && up[pair(i)] && down[pair(i)]
		if i.Kind == "thumbs-up" && contradicted || i.Kind == "thumbs-down" && contradicted {
			return DroppedContradiction
		}
		if i.Kind == "correction" && winner[fold(i.Input)] != fold(i.Correction) {
			return DroppedContradiction
		}
		return ""
	})
}

type clientExample struct {
	Example
	client string
	at     time.Time
}

// examples makes one example of each item that says what is right, each once.
func (c *curation) examples(items []Item) []clientExample {
	var list []clientExample
	seen := map[string]bool{}
	for _, i := range items {
		e := clientExample{client: i.Client, at: i.At, Example: Example{
			ID: i.ID, Prompt: i.Input, Chosen: i.target(), Reason: code(i.Reason), Release: i.Release,
		}}
		switch i.Kind {
		case "correction":
			e.Kind, e.Rejected = CorrectionExample, i.Output
			if fold(i.Output) == fold(i.Correction) {
				e.Rejected = ""
			}
		case "thumbs-up":
			e.Kind, e.Reason = ApprovalExample, ""
		default:
			c.out.Dropped[DroppedNoTarget]++
			continue
		}
		key := fold(e.Prompt) + "\x00" + fold(e.Chosen)
		if seen[key] {
			c.out.Dropped[DroppedEqual]++
			continue
		}
		seen[key] = true
		if c.settings.Known != nil && c.settings.Known(e.Example) {
			c.out.Dropped[DroppedKnown]++
			continue
		}
		list = append(list, e)
	}
	return list
}

// share keeps so many of each client's examples that none has more than its share of what is kept: the
// largest such number. Corrections stay before approvals, then the newest.
func (c *curation) share(list []clientExample, maxShare float64) []Example {
	byClient := map[string][]clientExample{}
	for _, e := range list {
		byClient[e.client] = append(byClient[e.client], e)
	}
	most := len(list)
	if maxShare > 0 && maxShare < 1 {
		most = largestCap(byClient, len(list), maxShare)
	}
	var kept []clientExample
	for client := range byClient {
		own := byClient[client]
		slices.SortFunc(own, func(a, b clientExample) int {
			return cmp.Or(strings.Compare(b.Kind, a.Kind), b.at.Compare(a.at), strings.Compare(a.ID, b.ID))
		})
		if n := len(own) - most; n > 0 {
			c.out.Dropped[DroppedShare] += n
			own = own[:most]
		}
		kept = append(kept, own...)
	}
	slices.SortFunc(kept, func(a, b clientExample) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.ID, b.ID)) })
	var out []Example
	for _, e := range kept {
		out = append(out, e.Example)
	}
	return out
}

// largestCap gives the largest n for which n is at most the share of the sum of min(n, examples) over
// clients; 0 where even 1 is too much, because there are too few clients.
func largestCap(byClient map[string][]clientExample, all int, share float64) int {
	for n := all; n > 0; n-- {
		total, largest := 0, 0
		for _, own := range byClient {
			total += min(n, len(own))
			largest = max(largest, min(n, len(own)))
		}
		if float64(largest) <= math.Nextafter(share*float64(total), math.Inf(1)) {
			return n
		}
	}
	return 0
}

var reasonCode = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,39}$`)

// code keeps a reason that is a short code. Prose becomes "other": it may hold anything.
func code(reason string) string {
	reason = strings.ToLower(strings.TrimSpace(reason))
	switch {
	case reason == "":
		return "unspecified"
	case reasonCode.MatchString(reason):
		return reason
	}
	return "other"
}

func deficits(items []Item) []Deficit {
	counts, clients := map[string]int{}, map[string]map[string]bool{}
	for _, i := range items {
		if i.Kind == "thumbs-up" {
			continue
		}
		name := code(i.Reason)
		if i.Kind == "abandoned" && strings.TrimSpace(i.Reason) == "" {
			name = "abandoned"
		}
		counts[name]++
		if clients[name] == nil {
			clients[name] = map[string]bool{}
		}
		clients[name][i.Client] = true
	}
	var list []Deficit
	for name, n := range counts {
		list = append(list, Deficit{Name: name, Items: n, Clients: len(clients[name])})
	}
	slices.SortFunc(list, func(a, b Deficit) int {
		return cmp.Or(b.Items-a.Items, b.Clients-a.Clients, strings.Compare(a.Name, b.Name))
	})
	return list
}

// Digest names a set of examples.
func Digest(examples []Example) lifecycle.Digest {
	h := sha256.New()
	for _, e := range examples {
		for _, part := range []string{e.ID, e.Kind, e.Prompt, e.Chosen, e.Rejected} {
			fmt.Fprintf(h, "%d:%s", len(part), part)
		}
	}
	return lifecycle.Digest(hex.EncodeToString(h.Sum(nil)))
}
