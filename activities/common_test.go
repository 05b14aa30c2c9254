package activities_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry/registrytest"
	"github.com/refitml/refit/internal/steps"
)

func TestAGrantProvesTheStartOfTheFirstRunThatShowsIt(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	common := activities.Common{Registry: registrytest.New(t).Registry, GrantKey: public}
	started, input := time.Now(), lifecycle.DigestOf([]byte(`{"service":"docs"}`))
	grant := lifecycle.Grant{
		Purpose: lifecycle.StartedBy, WorkflowID: "promote/docs", Approver: "alice", Input: input, Expires: started.Add(time.Minute), Nonce: rand.Text(),
	}.Sign(private)
	shows := func(run string, change func(*steps.ProveStartInput)) steps.StartProof {
		in := steps.ProveStartInput{Grant: grant, Owner: lifecycle.Owner{WorkflowID: "promote/docs", FirstRunID: run}, Input: input, Started: started}
		if change != nil {
			change(&in)
		}
		out, err := do(t, steps.ProveStart, common.ProveStart, in)
		require.NoError(t, err)
		return out
	}
	for why, change := range map[string]func(*steps.ProveStartInput){
		"signature does not match": func(in *steps.ProveStartInput) { in.Grant.Approver = "bob" },
		"something else":           func(in *steps.ProveStartInput) { in.Input = lifecycle.DigestOf(nil) },
		"expired":                  func(in *steps.ProveStartInput) { in.Started = started.Add(time.Hour) },
		"another run":              func(in *steps.ProveStartInput) { in.Owner.WorkflowID = "promote/art" },
	} {
		refused := shows("run-0", change)
		require.Empty(t, refused.By)
		require.Contains(t, refused.Why, why)
	}
	require.Equal(t, steps.StartProof{By: "alice"}, shows("run-1", nil))
	require.Equal(t, steps.StartProof{By: "alice"}, shows("run-1", nil), "the same run may ask again")
	require.Equal(t, steps.StartProof{Why: "another run showed the grant before"}, shows("run-2", nil))
}
