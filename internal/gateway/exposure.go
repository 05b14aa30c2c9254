package gateway

import (
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// exposure is one rollout at this gateway.
type exposure struct {
	rollout  string
	splitter *rollout.Splitter
}

// newExposure begins a rollout without credit.
func newExposure(r lifecycle.Route, policy lifecycle.Exposure) (*exposure, error) {
	splitter, err := rollout.NewSplitter(rollout.Config{
		Key: r.BandKey, Band: policy.Band, Cap: policy.Cap, Threshold: policy.Threshold,
	})
	if err != nil {
		return nil, lifecycle.Wrap(err, "begin rollout %s", r.Rollout)
	}
	return &exposure{rollout: r.Rollout, splitter: splitter}, nil
}
