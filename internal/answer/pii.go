package answer

import "github.com/refitml/refit/internal/lifecycle"

// piiStage puts "[kind]" in place of personal data, or counts it.
type piiStage struct {
	name string
	scan *lifecycle.PersonalScan
}

func (p *piiStage) feed(s string, last bool) (string, []string, bool) {
	out, hits := p.scan.Feed(s, last)
	for i, kind := range hits {
		hits[i] = p.name + ":" + kind
	}
	return out, hits, true
}
