package lifecycle

// Contamination says which documents count as holding a case of a suite, and what becomes of them before something is
// trained on them.
type Contamination struct {
	Action     string  `json:"action,omitempty" jsonschema:"enum=remove,enum=refuse,description=remove trains without those documents; refuse trains nothing; default remove"`
	Words      int     `json:"ngram,omitempty" jsonschema:"description=words in a row that a document and a case share (8 to 100); a shorter case counts as a whole; default 13"`
	Similarity float64 `json:"similarity,omitempty" jsonschema:"description=share of three-word shingles that a document or a paragraph or a line has in common with a case (0.5 to 1); default 0.7"`
}

// Actions on contaminated data.
const (
	RemoveContaminated = "remove"
	RefuseContaminated = "refuse"
)

// WithDefaults fills in what was left out.
func (c Contamination) WithDefaults() Contamination {
	setDefault(&c.Action, RemoveContaminated)
	setDefault(&c.Words, 13)
	setDefault(&c.Similarity, 0.7)
	return c
}

func (c Contamination) check(faults *Problems) {
	const at = "training.contamination"
	if c.Action != RemoveContaminated && c.Action != RefuseContaminated {
		faults.Add(at+".action", quote(c.Action), "give remove or refuse")
	}
	if c.Words < 8 || c.Words > 100 {
		faults.Add(at+".ngram", itoa(c.Words), "give 8 to 100 words")
	}
	if !(c.Similarity >= 0.5 && c.Similarity <= 1) {
		faults.Add(at+".similarity", ftoa(c.Similarity), "give 0.5 to 1")
	}
}

// ScreenLabel is the label of models and cleaned datasets that names the report of what their data were held against.
const ScreenLabel = "contamination"
