package lifecycle

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnIntervalSaysItsLimits(t *testing.T) {
	t.Parallel()
	for want, i := range map[string]Interval{
		"0.421 to 1.9": {Low: 0.4211, High: 1.9}, "over 2.1": {Low: 2.1}, "under 1.9": {High: 1.9}, "anything": {LowLevel: 0.05},
	} {
		require.Equal(t, want, i.String())
	}
	for want, i := range map[string]Interval{
		"0.31% to 4%": {Low: 0.0031, High: 0.04}, "over 4%": {Low: 0.04, High: 1}, "under 4%": {High: 0.04}, "anything": {High: 1},
	} {
		require.Equal(t, want, i.Percent())
	}
}

func TestAVerdictSaysWhatItsIntervalsAreHeldAgainst(t *testing.T) {
	t.Parallel()
	v := StepVerdict{Reason: "why", Metrics: []MetricVerdict{{
		Metric: "errors", Ratio: Interval{0.4, 1.9, 0.05, 0.025}, Tolerated: 1, Margin: 3, Floor: 0.02,
		CanaryRate: Interval{0.003, 0.04, 0.025, 0.025}, StableRate: Interval{0, 1, 0.025, 0.025},
	}}, Odds: Interval{0.9, 1.2, 0.01, 0.01}}
	require.Equal(t, []string{
		"errors: the canary's risk is 0.4 to 1.9 times stable's (harm from 1, safe to 3); its rate is 0.3% to 4% (safe to 2%), stable's anything",
		"share: the odds to be served the canary are 0.9 to 1.2 times those allowed (too many from 1)",
	}, v.Lines())
	shadow := ShadowVerdict{Between: Interval{-0.25, 0.5, 0.05, 0.01}, Metrics: []MetricVerdict{{Metric: ScoreMetric}, {Metric: "errors", Ratio: Interval{Low: 0.4, LowLevel: 0.01}, Tolerated: 1}}}
	require.Equal(t, []string{"score: the candidate's less stable's is -0.25 to +0.5 in the mean", "errors: in pairs in which one side had it, the candidate did over 0.4 times as often as stable (harm from 1)"}, shadow.Lines())
	brief := v.Brief()
	require.Empty(t, brief.Lines())
	require.Equal(t, StepVerdict{Reason: "why", Metrics: []MetricVerdict{{Metric: "errors"}}}, brief)
	require.Len(t, v.Lines(), 2, "the verdict itself keeps them")
	raw, err := json.Marshal(brief)
	require.NoError(t, err)
	require.JSONEq(t, `{"decision": "", "reason": "why", "conversations": 0, "canary": 0, "metrics": [{"metric": "errors", "required": false,
		"canary_events": 0, "stable_events": 0, "harm": 0, "safety": 0, "harmful": false, "safe": false}]}`, string(raw), "as it was before there were intervals")
}
