package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/steps"
)

// Common holds the steps that every loop has.
type Common struct {
	Registry         *registry.Registry
	Temporal         client.Client
	Namespace        string
	UI               func(lifecycle.Owner) string // a run's address in the Temporal UI; nil: none is given
	GrantKey         []byte                       // ed25519 public key that approvals are checked with
	SearchAttributes bool                         // the namespace has Refit's
}

// Resolve pins the service's newest declaration for one run.
func (c Common) Resolve(ctx context.Context, in steps.ResolveInput) (steps.Resolved, error) {
	service, err := c.Registry.Service(ctx, in.Service)
	if err != nil {
		return steps.Resolved{}, err
	}
	version, err := c.Registry.ServiceVersion(ctx, in.Service)
	if err != nil {
		return steps.Resolved{}, err
	}
	return steps.Resolved{
		Service: service, Version: version.Version, Digest: version.Digest,
		SearchAttributes: c.SearchAttributes, GrantKey: c.GrantKey,
	}, nil
}

// ProveStart says whether the grant that a run shows proves who started it. A grant is good for the first run that shows it.
func (c Common) ProveStart(ctx context.Context, in steps.ProveStartInput) (steps.StartProof, error) {
	if err := in.Grant.VerifyStart(c.GrantKey, in.Owner.WorkflowID, in.Input, in.Started); err != nil {
		return steps.StartProof{Why: err.Error()}, nil
	}
	first, err := c.Registry.UseStartGrant(ctx, in.Grant.Nonce, in.Owner.FirstRunID)
	if err != nil {
		return steps.StartProof{}, err
	}
	if !first {
		return steps.StartProof{Why: "another run showed the grant before"}, nil
	}
	return steps.StartProof{By: in.Grant.Approver}, nil
}

// Claim takes the one right to run a loop. A holder that Temporal reports closed or does not know is
// taken over; one that is running makes this run Busy.
func (c Common) Claim(ctx context.Context, in steps.ClaimInput) (lifecycle.Claim, error) {
	claim, err := c.Registry.TakeClaim(ctx, in.Service, in.Loop, in.Owner, in.By)
	if !lifecycle.Is(err, lifecycle.Busy) {
		return claim, err
	}
	holder, findErr := c.holder(ctx, in)
	if findErr != nil {
		return lifecycle.Claim{}, findErr
	}
	if holder == nil { // given back in between
		return lifecycle.Claim{}, lifecycle.Errorf(lifecycle.Unavailable, "claim of %s/%s changed hands just now", in.Service, in.Loop)
	}
	running, findErr := c.running(ctx, holder.Owner)
	if findErr != nil {
		return lifecycle.Claim{}, findErr
	}
	if running {
		return lifecycle.Claim{}, c.busy(*holder)
	}
	return c.Registry.TakeOver(ctx, in.Service, in.Loop, holder.Fence, in.Owner, in.By,
		fmt.Sprintf("workflow %s, which held the claim, is closed or unknown", holder.Owner.WorkflowID))
}

func (c Common) holder(ctx context.Context, in steps.ClaimInput) (*lifecycle.Claim, error) {
	claims, err := c.Registry.Claims(ctx, in.Service)
	for i := range claims {
		if claims[i].Loop == in.Loop {
			return &claims[i], err
		}
	}
	return nil, err
}

// busy names the holder and where to look at it.
func (c Common) busy(holder lifecycle.Claim) error {
	fields := map[string]string{
		"namespace": holder.Owner.Namespace, "workflow_id": holder.Owner.WorkflowID,
		"first_run_id": holder.Owner.FirstRunID, "fence": fmt.Sprint(holder.Fence),
	}
	message := fmt.Sprintf("%s of %s is held by workflow %s (first run %s) since %s", holder.Loop, holder.Service,
		holder.Owner.WorkflowID, holder.Owner.FirstRunID, holder.ClaimedAt.UTC().Format(time.RFC3339))
	if c.UI != nil {
		fields["url"] = c.UI(holder.Owner)
		message += ": " + fields["url"]
	}
	return &lifecycle.Error{Kind: lifecycle.Busy, Message: message, Fields: fields}
}

// running says whether the owner's chain of runs still goes on. What cannot be asked counts as running:
// a claim is never taken from somebody who may be alive.
func (c Common) running(ctx context.Context, owner lifecycle.Owner) (bool, error) {
	if owner.Namespace != c.Namespace {
		return true, nil
	}
	described, err := c.Temporal.DescribeWorkflowExecution(ctx, owner.WorkflowID, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return false, nil
	}
	if err != nil {
		return true, lifecycle.Errorf(lifecycle.Unavailable, "ask Temporal about workflow %s: %w", owner.WorkflowID, err)
	}
	info := described.GetWorkflowExecutionInfo()
	return info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && info.GetFirstRunId() == owner.FirstRunID, nil
}

// ReleaseClaim gives a claim back; giving it back twice changes nothing.
func (c Common) ReleaseClaim(ctx context.Context, in steps.ReleaseClaimInput) (steps.None, error) {
	return steps.None{}, c.Registry.ReleaseClaim(ctx, in.Claim, in.By)
}

// Record appends to the ledger, once per key.
func (c Common) Record(ctx context.Context, in steps.RecordInput) (steps.None, error) {
	return steps.None{}, c.Registry.AppendLedger(ctx, in.Entry, in.Key)
}

// AwaitDataset waits for a dataset that another run builds.
func (c Common) AwaitDataset(ctx context.Context, in steps.SharedInput) (steps.BuildDatasetResult, error) {
	return await[steps.BuildDatasetResult](ctx, c.Temporal, in.WorkflowID)
}

// AwaitVerdict waits for a verdict that another run gives.
func (c Common) AwaitVerdict(ctx context.Context, in steps.SharedInput) (lifecycle.Verdict, error) {
	return await[lifecycle.Verdict](ctx, c.Temporal, in.WorkflowID)
}

func await[Out any](ctx context.Context, temporal client.Client, id string) (Out, error) {
	var out Out
	ctx, done := long(ctx, nil)
	defer done()
	err := temporal.GetWorkflow(ctx, id, "").Get(ctx, &out)
	if err != nil && steps.KindOf(err) == lifecycle.Internal {
		return out, unanswered(id, err)
	}
	return out, steps.FromTemporal(err)
}

// unanswered: a run that was cancelled, terminated or forgotten never answers, so whoever waits must ask
// anew; anything else means that Temporal did not answer.
func unanswered(id string, err error) error {
	var ended *sdk.WorkflowExecutionError
	var missing *serviceerror.NotFound
	if errors.As(err, &ended) || errors.As(err, &missing) {
		return lifecycle.Errorf(lifecycle.NotFound, "workflow %s ended without an answer: %v", id, err)
	}
	return lifecycle.Errorf(lifecycle.Unavailable, "wait for workflow %s: %w", id, err)
}
