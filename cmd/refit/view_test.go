package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestBars(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"[===============               ] 50/100  loss 2.500  1000 tokens/s  50s left": lifecycle.Progress{
			Step: 50, Total: 100, Loss: 2.5, Tokens: 50_000, TokensPerS: 1000,
		}.Line(),
		"[                              ] 0/0":     lifecycle.Progress{}.Line(),
		"[==============================] 120/100": lifecycle.Progress{Step: 120, Total: 100}.Line(),
		"[==========                    ] step 2 of 3 at 25%  canary so far: 17 conversations, 90 requests  paused": rolloutBar(
			steps.PromotionState{Step: 1, StepsTotal: 3, Share: 2500, Paused: true, Done: make([]lifecycle.StepRecord, 1)},
			&lifecycle.Touched{Conversations: 17, Requests: 90},
		),
		"[                              ] step 1 of 3 at 0%  waits for approval": rolloutBar(steps.PromotionState{StepsTotal: 3, AwaitsApproval: true}, nil),
		"shadow step, copies of 10% of requests  paused":                         rolloutBar(steps.PromotionState{StepsTotal: 3, Shadowing: 1000, Paused: true}, nil),
		"shadow step is over: promote: enough; 9 pairs, 8 scored, the candidate -0.25 in the mean  waits for approval": rolloutBar(
			steps.PromotionState{StepsTotal: 3, AwaitsApproval: true, Shadow: &lifecycle.ShadowRecord{
				Verdict: lifecycle.ShadowVerdict{Decision: lifecycle.Promote, Reason: "enough", Pairs: 9, Scored: 8, Difference: -0.25},
			}}, nil),
	} {
		require.Equal(t, want, got)
	}
}

func TestStatusSaysWhereAShadowStepStands(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	status := control.StatusResult{Route: lifecycle.Route{Stable: "stable", Canary: "candidate", Step: lifecycle.ShadowIndex, Shadow: 1000}}
	printStatus(&out, status)
	require.Contains(t, out.String(), "at 0%, shadow step: copies of 10% of requests, shown to nobody")
	out.Reset()
	status.Route.Shadow = 0
	status.Rollout = &lifecycle.Rollout{Shadow: &lifecycle.ShadowRecord{Verdict: lifecycle.ShadowVerdict{Decision: lifecycle.RollBack, Reason: "worse", Pairs: 7}}}
	printStatus(&out, status)
	require.Contains(t, out.String(), "at 0%, shadow step is over")
	require.Contains(t, out.String(), "shadow step: roll-back: worse; 7 pairs\n")
	out.Reset()
	status.Shadowed = &lifecycle.ShadowVerdict{Decision: lifecycle.Hold, Reason: "3 of 100", Pairs: 4, Scored: 3}
	printStatus(&out, status)
	require.Contains(t, out.String(), "shadow step: hold: 3 of 100; 4 pairs, 3 scored, the candidate +0 in the mean\n")
}

func TestAViewSaysEverythingOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := newView(&out)
	now := control.Watched{
		State:    &steps.State{Phase: "training", Reason: "base"},
		Progress: &lifecycle.Progress{Step: 1, Total: 2},
	}
	v.show(now)
	v.show(now)
	now.Progress = nil
	now.Retries = []control.Retry{{Step: "RunJob", Attempt: 2, Failure: "no slot"}}
	v.show(now)
	v.show(now)
	v.end()
	require.Equal(t, "training: base\n  [===============               ] 1/2\n  RunJob failed and is tried again (attempt 2): no slot\n", out.String(),
		"without a terminal a bar is a line now and then")

	out.Reset()
	v = &view{out: &out, terminal: true}
	v.bar("half")
	v.bar("more")
	v.say("state", "done")
	require.Equal(t, "\r  half\x1b[K\r  more\x1b[K\ndone\n", out.String())
}
