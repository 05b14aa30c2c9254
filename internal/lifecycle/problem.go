package lifecycle

import (
	"fmt"
	"strings"
)

// Problem is one fault of a declaration, with its path and the way out:
// "rollout.steps[1].share_bp: 40000; give 1 to 9999 (500 is 5%)".
type Problem struct {
	Path   string `json:"path"`
	Found  string `json:"found"`
	Remedy string `json:"remedy"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; %s", p.Path, p.Found, p.Remedy)
}

// Problems collects the faults of one declaration, so that people see all of them at once.
type Problems []Problem

// Add appends a fault.
func (p *Problems) Add(path, found, remedy string, args ...any) {
	*p = append(*p, Problem{Path: path, Found: found, Remedy: fmt.Sprintf(remedy, args...)})
}

// Err gives all faults as one Invalid error about what, or nil where there are none.
func (p Problems) Err(what string) error {
	if len(p) == 0 {
		return nil
	}
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = "  " + problem.String()
	}
	return Errorf(Invalid, "%s has %d fault(s):\n%s", what, len(p), strings.Join(lines, "\n"))
}
