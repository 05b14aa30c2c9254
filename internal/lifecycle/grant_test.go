package lifecycle_test

import (
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestGrantIsGoodForOneStepOfOneRunOnly(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	otherPublic, otherPrivate, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	owner := lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/docs", FirstRunID: "run-1"}
	given := lifecycle.Grant{
		WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Step: 1, Release: digest("r"),
		Approver: "ada", Expires: now.Add(10 * time.Minute), Nonce: "n",
	}.Sign(private)

	raw, err := json.Marshal(given)
	require.NoError(t, err)
	var travelled lifecycle.Grant
	require.NoError(t, json.Unmarshal(raw, &travelled))
	require.NoError(t, travelled.Verify(public, owner, 1, digest("r"), now))

	otherRun := owner
	otherRun.FirstRunID = "run-2"
	forged := given
	forged.Approver = "mallory"
	unnamed := given
	unnamed.Approver = ""
	for name, refused := range map[string]error{
		"another run":     given.Verify(public, otherRun, 1, digest("r"), now),
		"another step":    given.Verify(public, owner, 2, digest("r"), now),
		"another release": given.Verify(public, owner, 1, digest("r2"), now),
		"too late":        given.Verify(public, owner, 1, digest("r"), given.Expires),
		"no key":          given.Verify(nil, owner, 1, digest("r"), now),
		"another key":     given.Verify(otherPublic, owner, 1, digest("r"), now),
		"changed":         forged.Verify(public, owner, 1, digest("r"), now),
		"not signed":      lifecycle.Grant{}.Verify(public, owner, 1, digest("r"), now),
		"signed by other": given.Sign(otherPrivate).Verify(public, owner, 1, digest("r"), now),
		"nobody's":        unnamed.Sign(private).Verify(public, owner, 1, digest("r"), now),
	} {
		require.Truef(t, lifecycle.Is(refused, lifecycle.Refused), "%s: %v", name, refused)
	}
}

func TestAGrantIsForOnePurpose(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	owner := lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/docs", FirstRunID: "run-1"}
	given := lifecycle.Grant{
		Purpose: lifecycle.BreakGlass, WorkflowID: owner.WorkflowID, FirstRunID: owner.FirstRunID, Release: digest("r"),
		Approver: "ada", Reason: "answers are wrong now", Expires: now.Add(time.Hour), Nonce: "n",
	}
	require.NoError(t, given.Sign(private).VerifyBreakGlass(public, owner, digest("r"), now))
	change := func(change func(*lifecycle.Grant)) lifecycle.Grant {
		g := given
		change(&g)
		return g.Sign(private)
	}
	relabelled := given.Sign(private)
	relabelled.Purpose = ""
	for name, refused := range map[string]error{
		"an approval":     change(func(g *lifecycle.Grant) { g.Purpose = "" }).VerifyBreakGlass(public, owner, digest("r"), now),
		"no reason":       change(func(g *lifecycle.Grant) { g.Reason = " " }).VerifyBreakGlass(public, owner, digest("r"), now),
		"for ever":        change(func(g *lifecycle.Grant) { g.Expires = now.Add(25 * time.Hour) }).VerifyBreakGlass(public, owner, digest("r"), now),
		"another release": given.Sign(private).VerifyBreakGlass(public, owner, digest("r2"), now),
		"too late":        given.Sign(private).VerifyBreakGlass(public, owner, digest("r"), given.Expires),
		"as an approval":  given.Sign(private).Verify(public, owner, 0, digest("r"), now),
		"relabelled":      relabelled.Verify(public, owner, 0, digest("r"), now),
	} {
		require.Truef(t, lifecycle.Is(refused, lifecycle.Refused), "%s: %v", name, refused)
	}
}

func TestWeightsStayShutWithoutEvidence(t *testing.T) {
	t.Parallel()
	ceiling := func(lever lifecycle.Lever) lifecycle.LeverResult {
		return lifecycle.LeverResult{Lever: lever, Suite: digest("suite"), Ceiling: true}
	}
	for name, tc := range map[string]struct {
		attempts []lifecycle.LeverResult
		want     lifecycle.Lever
	}{
		"nothing tried":               {nil, lifecycle.PromptLever},
		"prompt tried, no ceiling":    {[]lifecycle.LeverResult{{Lever: lifecycle.PromptLever, Suite: digest("suite")}}, lifecycle.PromptLever},
		"ceiling without evidence":    {[]lifecycle.LeverResult{{Lever: lifecycle.PromptLever, Ceiling: true}}, lifecycle.PromptLever},
		"prompt at its ceiling":       {[]lifecycle.LeverResult{ceiling(lifecycle.PromptLever)}, lifecycle.RetrievalLever},
		"retrieval only":              {[]lifecycle.LeverResult{ceiling(lifecycle.RetrievalLever)}, lifecycle.PromptLever},
		"both at their ceiling":       {[]lifecycle.LeverResult{ceiling(lifecycle.RetrievalLever), ceiling(lifecycle.PromptLever)}, lifecycle.WeightsLever},
		"weights tried before a time": {[]lifecycle.LeverResult{ceiling(lifecycle.WeightsLever)}, lifecycle.PromptLever},
	} {
		lever, why := lifecycle.LadderRecord{Attempts: tc.attempts}.NextLever()
		require.Equal(t, tc.want, lever, name)
		require.NotEmpty(t, why, name)
	}
}

func TestAStartIsProvenForOneInputOnly(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	given := lifecycle.Grant{
		Purpose: lifecycle.StartedBy, WorkflowID: "promote/docs", Approver: "ada", Input: digest("in"), Expires: now.Add(lifecycle.StartTime), Nonce: "n",
	}
	signed := given.Sign(private)
	require.NoError(t, signed.VerifyStart(public, "promote/docs", digest("in"), now))
	forged, approval, nothing := signed, given, given
	forged.Approver = "mallory"
	approval.Purpose = ""
	nothing.Input = ""
	owner := lifecycle.Owner{WorkflowID: "promote/docs"}
	for name, refused := range map[string]error{
		"another workflow":      signed.VerifyStart(public, "promote/art", digest("in"), now),
		"another input":         signed.VerifyStart(public, "promote/docs", digest("other"), now),
		"no input":              nothing.Sign(private).VerifyStart(public, "promote/docs", "", now),
		"too late":              signed.VerifyStart(public, "promote/docs", digest("in"), given.Expires),
		"changed":               forged.VerifyStart(public, "promote/docs", digest("in"), now),
		"an approval":           approval.Sign(private).VerifyStart(public, "promote/docs", digest("in"), now),
		"no key":                signed.VerifyStart(nil, "promote/docs", digest("in"), now),
		"a start as approval":   signed.Verify(public, owner, 0, "", now),
		"a start as pause":      signed.VerifyIntervention(public, owner, "pause", "n", now),
		"a start as nothing":    signed.VerifyIntervention(public, owner, "", "n", now),
		"a start's other nonce": signed.VerifyIntervention(public, owner, lifecycle.StartedBy, "m", now),
	} {
		require.Truef(t, lifecycle.Is(refused, lifecycle.Refused), "%s: %v", name, refused)
	}
}

func TestANameThatWasTypedIsOnlySaid(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]lifecycle.Actor{
		"ada": {Name: "ada", Via: lifecycle.ViaGrant}, "bob": {Name: "bob", Via: "cli"}, "unnamed": {Name: "unnamed", Via: lifecycle.ViaTemporal},
		"said to be eve (not proven)": {Name: "eve", Via: lifecycle.ViaWorkflow}, "said to be mia (not proven)": {Name: "mia", Via: lifecycle.ViaUpdate}, "": {},
	} {
		require.Equal(t, want, a.String())
	}
	typed := lifecycle.LedgerEntry{Kind: lifecycle.Paused, Actor: lifecycle.Actor{Name: "eve", Via: lifecycle.ViaUpdate}}
	require.Equal(t, "said to be eve (not proven)", typed.Who())
	typed.Kind = lifecycle.Approved
	require.Equal(t, "eve", typed.Who(), "the entry holds its grant")
}
