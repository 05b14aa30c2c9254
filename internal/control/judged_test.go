package control

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// pending is an activity that goes on, with what its newest heartbeat said.
func pending(t *testing.T, name string, said any) *workflowpb.PendingActivityInfo {
	t.Helper()
	raw, err := json.Marshal(said)
	require.NoError(t, err)
	return &workflowpb.PendingActivityInfo{
		ActivityType: &commonpb.ActivityType{Name: name}, HeartbeatDetails: &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: raw}}},
	}
}

func TestWhatIsHeldSaysWhatItsJudgeSees(t *testing.T) {
	t.Parallel()
	type held struct {
		Verdict *lifecycle.StepVerdict   `json:"verdict,omitempty"`
		Shadow  *lifecycle.ShadowVerdict `json:"shadow,omitempty"`
	}
	step, shadow := &lifecycle.StepVerdict{Decision: lifecycle.Hold, Reason: "3 of 50"}, &lifecycle.ShadowVerdict{Decision: lifecycle.Hold, Pairs: 4}
	silent := &workflowpb.PendingActivityInfo{ActivityType: &commonpb.ActivityType{Name: steps.HoldShadow.Name}}
	for name, tc := range map[string]struct {
		pending []*workflowpb.PendingActivityInfo
		step    *lifecycle.StepVerdict
		shadow  *lifecycle.ShadowVerdict
	}{
		"a step":              {[]*workflowpb.PendingActivityInfo{silent, pending(t, steps.HoldStep.Name, held{Verdict: step})}, step, nil},
		"a shadow step":       {[]*workflowpb.PendingActivityInfo{pending(t, steps.HoldShadow.Name, held{Shadow: shadow})}, nil, shadow},
		"before the first":    {[]*workflowpb.PendingActivityInfo{silent, pending(t, steps.HoldShadow.Name, held{})}, nil, nil},
		"another step's word": {[]*workflowpb.PendingActivityInfo{pending(t, steps.AwaitThaw.Name, held{step, shadow}), pending(t, steps.HoldStep.Name, "x")}, nil, nil},
	} {
		gotStep, gotShadow := judgedBy(tc.pending)
		require.Equal(t, tc.step, gotStep, name)
		require.Equal(t, tc.shadow, gotShadow, name)
	}
}
