package lifecycle

import "time"

// LadderRecord is, for one deficit, what each lever achieved; it opens or refuses the next lever.
type LadderRecord struct {
	ID       string        `json:"id"` // digest of service and deficit
	Service  string        `json:"service"`
	Deficit  string        `json:"deficit"` // what users report: a reason code, a capability
	Evidence []Digest      `json:"evidence,omitempty"`
	Attempts []LeverResult `json:"attempts,omitempty"`
	OpenedAt time.Time     `json:"opened_at"`
}

// LeverResult is what one lever achieved.
type LeverResult struct {
	Lever     Lever   `json:"lever"`
	Candidate Digest  `json:"candidate"`
	Suite     Digest  `json:"suite"`
	Gain      float64 `json:"gain"`    // in the deficit's unit
	Ceiling   bool    `json:"ceiling"` // recorded evidence that this lever gives no more
}

// NextLever says which lever may be tried: the first in the order prompt, retrieval, weights whose
// cheaper levers all hit their ceiling. Weights stay shut without evidence of both.
func (l LadderRecord) NextLever() (Lever, string) {
	for _, lever := range []Lever{PromptLever, RetrievalLever} {
		if !l.hitCeiling(lever) {
			return lever, "no recorded evidence that " + string(lever) + " hit its ceiling"
		}
	}
	return WeightsLever, "prompt and retrieval hit their ceiling"
}

func (l LadderRecord) hitCeiling(lever Lever) bool {
	for _, a := range l.Attempts {
		if a.Lever == lever && a.Ceiling && a.Suite.Valid() {
			return true
		}
	}
	return false
}
