package corpus

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Reason says why a document was dropped.
type Reason string

const (
	Unreadable    Reason = "unreadable"     // its file could not be parsed
	Encoding      Reason = "encoding"       // not UTF-8, or decoded wrongly before
	Empty         Reason = "empty"          // nothing left after cleaning
	TooShort      Reason = "too-short"      // see Quality
	TooLong       Reason = "too-long"       // see Quality
	Symbols       Reason = "symbols"        // see Quality
	Repetition    Reason = "repetition"     // see Quality
	Secret        Reason = "secret"         // holds a key, token or password
	Duplicate     Reason = "duplicate"      // the same words were kept before
	NearDuplicate Reason = "near-duplicate" // nearly the same shingles were kept before
	SameID        Reason = "same-id"        // another text of this ID was kept before, or there is no ID
)

// Policy is what a corpus must be. The zero value works; a negative number where a share is asked for means none
// at all.
type Policy struct {
	Quality      Quality `json:"quality,omitzero"`
	MinDocuments int     `json:"min_documents,omitempty"` // fewer kept ones refuse the corpus; default 1
	MaxDocuments int     `json:"max_documents,omitempty"` // take at most so many, spread evenly over the corpus; 0 is all
	MaxDropped   float64 `json:"max_dropped,omitempty"`   // a larger dropped share refuses; default 0.5. Duplicates count
	MaxSecrets   float64 `json:"max_secrets,omitempty"`   // a larger share with secrets refuses: the source is not what it should be; default 0.01
	HeldOut      float64 `json:"held_out,omitempty"`      // share kept for evaluation; default 0.05
	SplitBy      string  `json:"split_by,omitempty"`      // SplitByDocument or SplitBySource; default by document
}

func (p Policy) withDefaults() Policy {
	p.Quality = p.Quality.withDefaults()
	setDefault(&p.MinDocuments, 1)
	setDefault(&p.MaxDropped, 0.5)
	setDefault(&p.MaxSecrets, 0.01)
	setDefault(&p.HeldOut, 0.05)
	p.SplitBy = cmp.Or(p.SplitBy, SplitByDocument)
	return p
}

// Outcomes of a data check.
const (
	Pass    = "pass"
	Refused = "refused"
)

// Drop is what was dropped for one reason. Examples are a few IDs, never text.
type Drop struct {
	Documents int      `json:"documents"`
	Examples  []string `json:"examples"`
}

// CardVersion is the version of the data card's form.
const CardVersion = 1

// Card is what a data check found: data-card.json of a dataset.
type Card struct {
	Version     int              `json:"version"`
	Verdict     string           `json:"verdict"` // Pass or Refused
	Reasons     []string         `json:"reasons"` // why it was refused
	Seen        int              `json:"seen"`    // documents read, Unreadable ones too
	Train       int              `json:"train"`
	HeldOut     int              `json:"held_out"`
	LeftOut     int              `json:"left_out"` // good, but over Policy.MaxDocuments
	Sources     int              `json:"sources"`  // different ones among what was kept
	Bytes       int64            `json:"bytes"`    // of kept text
	Cleaned     int              `json:"cleaned"`  // kept documents that cleaning changed
	Dropped     map[Reason]Drop  `json:"dropped"`
	SecretKinds map[string]int   `json:"secret_kinds"` // documents by the kind of the first secret in them
	Digest      lifecycle.Digest `json:"digest"`       // of the kept documents with their split, in order
	Policy      Policy           `json:"policy"`       // with its defaults filled in
}

// DroppedDocuments counts what was dropped for any reason.
func (c Card) DroppedDocuments() int {
	n := 0
	for _, d := range c.Dropped {
		n += d.Documents
	}
	return n
}

// Checked is a corpus after its check: the documents that were kept, in the order in which they came.
type Checked struct {
	Card    Card
	Train   []Document
	HeldOut []Document
}

const maxExamples = 5

// Check cleans and judges documents. An error of kind Corrupt in docs counts as an Unreadable document; every other
// ends the check, because a corpus of which a part could not be read is not the corpus. A refused corpus is no
// error: the card says why, and nothing may be trained on it.
func Check(docs iter.Seq2[Document, error], policy Policy) (Checked, error) {
	c := &check{
		policy: policy.withDefaults(), secrets: newFinder(), seen: newDuplicates(), ids: map[string]bool{},
		card: Card{Version: CardVersion, Reasons: []string{}, Dropped: map[Reason]Drop{}, SecretKinds: map[string]int{}},
	}
	if by := c.policy.SplitBy; by != SplitByDocument && by != SplitBySource {
		return Checked{}, lifecycle.Errorf(lifecycle.Invalid, "split_by: %q; give %s or %s", by, SplitByDocument, SplitBySource)
	}
	for doc, err := range docs {
		if err != nil && !lifecycle.Is(err, lifecycle.Corrupt) {
			return Checked{}, lifecycle.Wrap(err, "read the corpus")
		}
		c.card.Seen++
		if err != nil {
			c.drop(Unreadable, doc.ID)
			continue
		}
		c.take(doc)
	}
	return c.finish(), nil
}

type check struct {
	policy  Policy
	card    Card
	secrets finder
	seen    *duplicates
	ids     map[string]bool
	kept    []Document
	changed []bool // by cleaning
}

func (c *check) take(doc Document) {
	clean, ok := Clean(doc.Text)
	title, titleOK := Clean(doc.Title)
	if !ok || !titleOK {
		c.drop(Encoding, doc.ID)
		return
	}
	changed := clean != doc.Text
	doc.Text, doc.Title = clean, title
	if reason := c.judge(doc); reason != "" {
		c.drop(reason, doc.ID)
		return
	}
	c.ids[doc.ID] = true
	c.kept = append(c.kept, doc)
	c.changed = append(c.changed, changed)
}

// judge gives the first reason against a clean document; what is cheap comes first, and only what would be
// kept is remembered by the search for duplicates, which comes last.
func (c *check) judge(doc Document) Reason {
	if reason := c.policy.Quality.judge(doc.Text); reason != "" {
		return reason
	}
	if kind := c.secrets.find(doc.Title + "\n" + doc.Text); kind != "" {
		c.card.SecretKinds[kind]++
		return Secret
	}
	if doc.ID == "" || c.ids[doc.ID] {
		return SameID
	}
	return c.seen.seen(doc.Text)
}

func (c *check) drop(reason Reason, id string) {
	d := c.card.Dropped[reason]
	d.Documents++
	if len(d.Examples) < maxExamples {
		d.Examples = append(d.Examples, id)
	}
	c.card.Dropped[reason] = d
}

func (c *check) finish() Checked {
	out := Checked{Card: c.card}
	card := &out.Card
	card.Policy = c.policy
	if most := c.policy.MaxDocuments; most > 0 && len(c.kept) > most {
		card.LeftOut = len(c.kept) - most
		for i := range most { // never writes ahead of what it reads: i*n/most >= i
			from := i * len(c.kept) / most
			c.kept[i], c.changed[i] = c.kept[from], c.changed[from]
		}
		c.kept, c.changed = c.kept[:most], c.changed[:most]
	}
	out.Train, out.HeldOut = Split(c.kept, c.policy.HeldOut, c.policy.SplitBy)
	sources := map[string]bool{}
	for i, doc := range c.kept {
		card.Bytes += int64(len(doc.Text))
		sources[doc.Source] = true
		if c.changed[i] {
			card.Cleaned++
		}
	}
	card.Train, card.HeldOut, card.Sources = len(out.Train), len(out.HeldOut), len(sources)
	sum := newDigester()
	for _, doc := range out.Train {
		sum.add(TrainSplit, doc)
	}
	for _, doc := range out.HeldOut {
		sum.add(HeldOutSplit, doc)
	}
	card.Digest = sum.digest()
	card.judge(len(c.kept) + card.LeftOut)
	return out
}

// judge gives the verdict; good is how many documents nothing spoke against.
func (c *Card) judge(good int) {
	refuse := func(format string, args ...any) { c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...)) }
	kept, dropped := c.Train+c.HeldOut, c.DroppedDocuments()
	if kept < max(1, c.Policy.MinDocuments) {
		refuse("%d documents are left; at least %d are asked for", kept, max(1, c.Policy.MinDocuments))
	}
	if kept > 0 && c.Train == 0 {
		refuse("every document is held out: nothing is left to train on")
	}
	if share := float64(dropped) / float64(max(1, good+dropped)); share > max(0, c.Policy.MaxDropped) {
		refuse("%d of %d documents (%.1f%%) were dropped; at most %.1f%% may be: %s",
			dropped, good+dropped, 100*share, 100*max(0, c.Policy.MaxDropped), c.worst())
	}
	secrets := c.Dropped[Secret].Documents
	if share := float64(secrets) / float64(max(1, c.Seen)); share > max(0, c.Policy.MaxSecrets) {
		refuse("%d of %d documents (%.2f%%) hold secrets; at most %.2f%% may", secrets, c.Seen, 100*share, 100*max(0, c.Policy.MaxSecrets))
	}
	c.Verdict = Pass
	if len(c.Reasons) > 0 {
		c.Verdict = Refused
	}
}

// worst names the reasons by how many documents they took.
func (c *Card) worst() string {
	reasons := make([]Reason, 0, len(c.Dropped))
	for r := range c.Dropped {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(c.Dropped[b].Documents-c.Dropped[a].Documents, cmp.Compare(a, b))
	})
	text := ""
	for i, r := range reasons {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %d", r, c.Dropped[r].Documents)
	}
	return text
}
