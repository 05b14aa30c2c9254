package control_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// shelf is a place where reports lie.
type shelf map[lifecycle.Digest]map[string]string

func (s shelf) ReadFile(_ context.Context, ref lifecycle.ArtifactRef, path string, _ int64) ([]byte, error) {
	body, ok := s[ref.Digest][path]
	if !ok {
		return nil, lifecycle.Errorf(lifecycle.NotFound, "no %s", path)
	}
	return []byte(body), nil
}

func TestAGatesReportIsShown(t *testing.T) {
	digest := func(of string) lifecycle.Digest { return lifecycle.DigestOf([]byte(of)) }
	both := map[string]string{"report.md": "# Gate: pass\n", "report.json": `{"verdict":{}}`, "answers.jsonl": "secret"}
	w := newWorld(t, func(c *control.Config) {
		c.Reports = shelf{digest("gate"): both, digest("answers"): both, digest("broken"): {"report.md": "x", "report.json": "{"}}
	})
	w.apply()
	add := func(name, label string) {
		require.NoError(t, w.Registry.AddArtifact(w.ctx, lifecycle.Artifact{
			ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: digest(name)}, Service: svc,
			Labels: map[string]string{"report": label}, MadeBy: lifecycle.Actor{Name: "ada", Via: "cli"}, Size: 1, Files: 1,
		}))
	}
	add("gate", "gate")
	add("answers", "answers")
	add("broken", "gate")
	got := do(w, control.Report, control.ReportInput{Service: svc, Report: digest("gate")})
	require.Equal(t, "# Gate: pass\n", got.Markdown)
	require.JSONEq(t, `{"verdict":{}}`, string(got.Report))
	refused(w, lifecycle.NotFound, control.Report, control.ReportInput{Service: "another", Report: digest("gate")})
	refused(w, lifecycle.NotFound, control.Report, control.ReportInput{Service: svc, Report: digest("answers")})
	refused(w, lifecycle.NotFound, control.Report, control.ReportInput{Service: svc, Report: digest("none")})
	refused(w, lifecycle.Corrupt, control.Report, control.ReportInput{Service: svc, Report: digest("broken")})
	refused(w, lifecycle.Invalid, control.Report, control.ReportInput{Service: svc, Report: "../x"})

	without := control.New(control.Config{Registry: w.Registry})
	_, err := control.Report.Do(w.ctx, without, as(control.Viewer), control.ReportInput{Service: svc, Report: digest("gate")})
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}
