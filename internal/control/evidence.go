package control

import (
	"context"
	"strings"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// EvidenceInput names a release.
type EvidenceInput struct {
	Service string `json:"service"`
	Release string `json:"release"` // ID or its beginning
}

// EvidenceBundle is all that is recorded of a release: what it is, who signed it, how it was judged, whom it met and
// who decided. Reports are named by their digests; they lie in S3.
type EvidenceBundle struct {
	Service    string               `json:"service"`
	ID         lifecycle.Digest     `json:"id"`
	Release    lifecycle.Release    `json:"release"` // its canonical form has ID as its digest
	Exported   time.Time            `json:"exported_at"`
	Signatures []lifecycle.Envelope `json:"signatures"`
	Verdicts   []lifecycle.Verdict  `json:"verdicts"` // of gates in which it was the candidate, newest first
	Rollouts   []lifecycle.Rollout  `json:"rollouts"` // with their steps and whom they touched, newest first
	Ledger     []lifecycle.Chained  `json:"ledger"`   // entries that are about it or name it, with their hashes, oldest first
	Head       lifecycle.Digest     `json:"ledger_head"`
	Anchors    []lifecycle.Anchor   `json:"anchors"`
	Unread     string               `json:"anchors_unread,omitempty"`
}

// Evidence exports what is recorded of a release.
var Evidence = UseCase[EvidenceInput, EvidenceBundle]{"evidence", Viewer, (*Control).evidence}

func (c *Control) evidence(ctx context.Context, _ Caller, in EvidenceInput) (EvidenceBundle, error) {
	out := EvidenceBundle{
		Service: in.Service, Exported: c.cfg.Now().UTC(), Verdicts: []lifecycle.Verdict{}, Rollouts: []lifecycle.Rollout{},
		Ledger: []lifecycle.Chained{}, Anchors: []lifecycle.Anchor{},
	}
	var err error
	if out.ID, out.Release, err = c.cfg.Registry.Release(ctx, in.Service, in.Release); err != nil {
		return out, err
	}
	if out.Signatures, err = c.cfg.Registry.ReleaseSignatures(ctx, in.Service, out.ID); err != nil {
		return out, err
	}
	if out.Verdicts, err = c.cfg.Registry.EvaluationsOf(ctx, in.Service, out.ID); err != nil {
		return out, err
	}
	if out.Rollouts, err = c.cfg.Registry.RolloutsOf(ctx, in.Service, out.ID); err != nil {
		return out, err
	}
	for e, err := range c.cfg.Registry.LedgerChain(ctx, in.Service, 0) {
		if err != nil {
			return out, err
		}
		out.Head = e.Chain
		if e.Subject == string(out.ID) || strings.Contains(e.Text, string(out.ID)) {
			out.Ledger = append(out.Ledger, e)
		}
	}
	if anchors, err := c.anchors(ctx, in.Service); err != nil {
		out.Unread = err.Error()
	} else {
		out.Anchors = append(out.Anchors, anchors...)
	}
	return out, nil
}
