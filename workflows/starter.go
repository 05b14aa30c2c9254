package workflows

import (
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// proveStart holds the name in the input against the grant in the run's memo, which the control API signs for who asked it.
// Without one the name is what somebody typed, and stays unproven.
func (l *loop) proveStart(ctx workflow.Context, raw converter.RawValue) error {
	info := workflow.GetInfo(ctx)
	payload := info.Memo.GetFields()[steps.StartedByMemo]
	if payload == nil {
		return nil
	}
	in := steps.ProveStartInput{Owner: l.owner, Input: lifecycle.DigestOf(raw.Payload().GetData()), Started: info.WorkflowStartTime}
	if err := converter.GetDefaultDataConverter().FromPayload(payload, &in.Grant); err != nil {
		l.note(ctx, l.state.Phase, "who started it is not proven: the grant cannot be read")
		return nil
	}
	proof, err := steps.ProveStart.Run(ctx, in)
	switch {
	case err != nil:
		return err
	case proof.By != l.by.Name:
		l.note(ctx, l.state.Phase, "who started it is not proven: "+proof.Why)
	default:
		l.by.Via = lifecycle.ViaGrant
		l.state.By = l.by
	}
	return nil
}
