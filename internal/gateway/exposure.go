package gateway

import (
	"github.com/refitml/refit/internal/lifecycle"
)

// verdict is the exposure rule's answer for one request.
type verdict struct {
	canary     bool
	first      bool // of the conversation here
	coin       bool
	propensity float64
	moved      bool
}

// exposure is one rollout at this gateway.
type exposure struct {
	rollout  string
	split    *splitter
	share    lifecycle.BasisPoints // in force
	requests int64
	admitted int64
}

func newExposure(r lifecycle.Route, policy lifecycle.Exposure) *exposure {
	return &exposure{rollout: r.Rollout, split: newSplitter(r.BandKey, policy)}
}

func (e *exposure) allow(share lifecycle.BasisPoints) {
	e.share = share
	e.split.setShare(share)
}

func (e *exposure) credit() float64 { return e.split.credit }

func (e *exposure) mustLookUp(h conversationHash) bool {
	_, known := e.split.known[h]
	return !known && e.split.inBand(h)
}

func (e *exposure) admit(h conversationHash, fresh, elsewhere bool) verdict {
	e.requests++
	v := e.split.admit(h, fresh, elsewhere)
	if v.canary {
		e.admitted++
	}
	return v
}
