package control

import (
	"context"
	"encoding/json"

	"github.com/refitml/refit/internal/lifecycle"
)

// Reports reads one file of an artifact, at most limit bytes.
type Reports interface {
	ReadFile(ctx context.Context, ref lifecycle.ArtifactRef, path string, limit int64) ([]byte, error)
}

// ReportInput names a gate's report, by the digest that its verdict gives.
type ReportInput struct {
	Service string           `json:"service"`
	Report  lifecycle.Digest `json:"report"`
}

// ReportResult is the report for people and for programs.
type ReportResult struct {
	Markdown string          `json:"markdown"`
	Report   json.RawMessage `json:"report"`
}

// maxReport bounds one form of a report, in bytes. Reports bound themselves far below.
const maxReport = 8 << 20

// Report gives what stands behind a verdict. It is a report of the service's own gates or NotFound: answers are kept
// as reports, too, and are not handed out whole.
var Report = UseCase[ReportInput, ReportResult]{"report", Viewer, (*Control).report}

func (c *Control) report(ctx context.Context, _ Caller, in ReportInput) (ReportResult, error) {
	if !in.Report.Valid() {
		return ReportResult{}, lifecycle.Errorf(lifecycle.Invalid, "report: %q is no digest", in.Report)
	}
	if c.cfg.Reports == nil {
		return ReportResult{}, lifecycle.Errorf(lifecycle.Unavailable, "this place has no S3 to read reports from")
	}
	known, err := c.cfg.Registry.Artifact(ctx, in.Report)
	if err != nil {
		return ReportResult{}, err
	}
	if known.Service != in.Service || known.Kind != lifecycle.ReportArtifact || known.Labels["report"] != "gate" {
		return ReportResult{}, lifecycle.Errorf(lifecycle.NotFound, "service %s has no gate's report %s", in.Service, in.Report.Short())
	}
	markdown, err := c.cfg.Reports.ReadFile(ctx, known.ArtifactRef, "report.md", maxReport)
	if err != nil {
		return ReportResult{}, err
	}
	raw, err := c.cfg.Reports.ReadFile(ctx, known.ArtifactRef, "report.json", maxReport)
	if err == nil && !json.Valid(raw) {
		err = lifecycle.Errorf(lifecycle.Corrupt, "report %s is no JSON", in.Report.Short())
	}
	return ReportResult{string(markdown), raw}, err
}
