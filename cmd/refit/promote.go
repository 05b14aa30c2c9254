package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func newPromote(a *app) *cobra.Command {
	var in control.PromoteInput
	var watch bool
	cmd := &cobra.Command{
		Use: "promote SERVICE", Short: "Move a gated release to all traffic",
		Long: "Start PromoteRelease: gate, a shadow step where rollout.shadow declares one (the candidate answers copies of\n" +
			"requests, nobody is shown its answers), canary steps, stable. Before, the plan is printed: what each step will need\n" +
			"at last week's traffic; one that cannot end within its time is refused, unless --accept-late is given. In a freeze it\n" +
			"is refused, too, unless --wait is given. Leaving the view (Ctrl-C) does not stop the promotion.",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&in.Release, "release", "", "release to promote, by ID or its beginning (default: the newest)")
	cmd.Flags().BoolVar(&in.Approval, "approval", false, "ask a person before every step")
	cmd.Flags().BoolVar(&in.Wait, "wait", false, "in a freeze wait for its end, or for refit break-glass, instead of being refused")
	cmd.Flags().BoolVar(&in.Late, "accept-late", false, "begin although a step cannot end within its time at last week's traffic")
	cmd.Flags().BoolVar(&in.DryRun, "dry-run", false, "print the plan and what would refuse it, and start nothing; exits with 5 where something would")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it ends")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		promoting, err := call(a, cmd, control.Promote, in)
		if err != nil {
			return err
		}
		if in.DryRun || !watch {
			err = a.report(promoting, nil, func(w io.Writer) { printPromoting(w, promoting) })
			if promoting.Refused != "" {
				err = &exitError{lifecycle.Refused.ExitCode(), "it would be refused: " + promoting.Refused}
			}
			return err
		}
		printPlan(a.diagnostics, promoting)
		started := promoting.Started
		final, err := a.follow(cmd, started)
		if err != nil {
			return err
		}
		return a.promotionEnded(final)
	}
	return cmd
}

func printPromoting(w io.Writer, p control.Promoting) {
	printPlan(w, p)
	if p.WorkflowID != "" {
		printStarted(w, p.Started)
	}
}

func printPlan(w io.Writer, p control.Promoting) {
	if p.Plan != nil {
		for _, line := range p.Plan.Lines() {
			fmt.Fprintln(w, line)
		}
	}
	if p.Frozen != nil {
		fmt.Fprintln(w, frozenLine(p.Frozen))
	}
}

// promotionEnded prints how a promotion ended; one that was rolled back exits as regress.
func (a *app) promotionEnded(final control.Watched) error {
	var result steps.PromotionResult
	if err := json.Unmarshal(final.Result, &result); err != nil {
		return lifecycle.Errorf(lifecycle.Internal, "read the promotion's result: %w", err)
	}
	err := a.report(result, nil, func(w io.Writer) {
		fmt.Fprintf(w, "%s: release %s: %s\n", result.Phase, result.Release.Short(), result.Reason)
		if s := result.Shadow; s != nil {
			fmt.Fprintf(w, "  shadow step at %s: %s: %s\n", s.Share, s.Verdict.Decision, s.Verdict.Reason)
		}
		for _, s := range result.Steps {
			fmt.Fprintf(w, "  step %d at %s: %s: %s\n", s.Index+1, s.Allowed, s.Verdict.Decision, s.Verdict.Reason)
		}
		if t := result.Touched; t != nil && result.Phase != lifecycle.RolloutPromoted {
			fmt.Fprintf(w, "  touched %d conversations, %d requests, %d tokens\n", t.Conversations, t.Requests, t.Tokens)
		}
	})
	if err == nil && result.Phase != lifecycle.RolloutPromoted {
		err = &exitError{lifecycle.Regress.ExitCode(), "not promoted: " + result.Reason}
	}
	return err
}

func newApprove(a *app) *cobra.Command {
	var in control.ApproveInput
	cmd := &cobra.Command{
		Use: "approve SERVICE", Short: "Let the waiting step of a promotion begin; needs role approver", Args: cobra.ExactArgs(1),
		Long: "Let the waiting step of a promotion begin, by a signed grant that is good for this step of this run only. Where the\n" +
			"declaration says rollout.four_eyes, who started the promotion may not; where that is not proven (a run from the\n" +
			"Temporal UI or a schedule) two persons have to.",
	}
	cmd.Flags().IntVar(&in.Step, "step", 0, "approve this step, counted from 1, and no other (default: the one that waits)")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	cmd.Flags().StringVar(&in.Key, "key", "", "repeated with the same key it is done once")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		state, err := call(a, cmd, control.Approve, in)
		return a.report(state, err, func(w io.Writer) {
			if r := state.Rollout; r != nil && r.AwaitsApproval {
				fmt.Fprintf(w, "noted; it still waits: %s\n", state.Reason)
				return
			}
			fmt.Fprintln(w, "approved")
		})
	}
	return cmd
}

func newIntervene(a *app, action string) *cobra.Command {
	in := control.InterveneInput{Action: action}
	cmd := &cobra.Command{Use: action + " SERVICE", Args: cobra.ExactArgs(1), Short: map[string]string{
		"pause":  "Hold a promotion where it is; its clock stops, harm still rolls back",
		"resume": "Let a paused promotion go on",
		"abort":  "End a promotion and give all traffic back to stable",
		"reject": "Refuse the waiting step and give all traffic back to stable",
	}[action]}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	cmd.Flags().StringVar(&in.Key, "key", "", "repeated with the same key it is done once")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		state, err := call(a, cmd, control.Intervene, in)
		return a.report(state, err, func(w io.Writer) { fmt.Fprintf(w, "%s: done (phase %s)\n", action, state.Phase) })
	}
	return cmd
}

func newStatus(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status [SERVICE]", Short: "Show what serves, what is on its way, and the way back", Args: cobra.MaximumNArgs(1),
		Long: "Show what serves, what is on its way, how fast the way back is now (instant, about N min: must load, none), and\n" +
			"whether what was served can be told apart (attribution). Without a service: a line for each.",
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again whenever it changes, until interrupted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		show := func(a *app) error {
			if len(args) == 0 {
				return a.statusOfAll(cmd)
			}
			s, err := call(a, cmd, control.Status, control.StatusInput{Service: args[0]})
			return a.report(s, err, func(w io.Writer) { printStatus(w, s) })
		}
		if !watch {
			return show(a)
		}
		return a.watch(cmd.Context(), show)
	}
	return cmd
}

// watch shows something again whenever it changes. A control API that is away is waited for.
func (a *app) watch(ctx context.Context, show func(*app) error) error {
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	view := newView(a.diagnostics)
	before := ""
	for {
		var now bytes.Buffer
		into := *a
		into.out = &now
		err := show(&into)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case lifecycle.Is(err, lifecycle.Unavailable):
			view.say("api", "waiting for the control API: "+err.Error())
		case err != nil:
			return err
		case now.String() != before:
			before = now.String()
			fmt.Fprint(a.out, before)
			if !a.asJSON() {
				fmt.Fprintln(a.out)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) statusOfAll(cmd *cobra.Command) error {
	services, err := call(a, cmd, control.Services, struct{}{})
	if err != nil {
		return err
	}
	all := []control.StatusResult{}
	for _, service := range services {
		s, err := call(a, cmd, control.Status, control.StatusInput{Service: service.Service})
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	return a.report(all, nil, func(w io.Writer) {
		var rows [][]string
		for _, s := range all {
			canary := "none"
			if s.Route.Canary != "" {
				canary = s.Route.Canary.Short() + " at " + s.Route.Share.String()
			}
			rows = append(rows, []string{s.Service, orNone(s.Route.Stable), canary, s.WayBack.Speed, s.Attribution, fmt.Sprint(len(s.Gateways))})
		}
		table(w, []string{"SERVICE", "STABLE", "CANARY", "WAY BACK", "ATTRIBUTION", "GATEWAYS"}, rows)
	})
}

func evaluationLine(e control.RunningEvaluation) string {
	line := "no worker answers"
	if e.State != nil {
		line = e.State.Phase + ": " + e.State.Reason
	}
	if e.Progress != nil {
		line += " " + e.Progress.Line()
	}
	return line
}

func printStatus(w io.Writer, s control.StatusResult) {
	fmt.Fprintf(w, "service      %s, declaration version %d\n", s.Service, s.Version)
	fmt.Fprintf(w, "stable       %s (generation %d%s)\n", orNone(s.Route.Stable), s.Route.Generation, answering(s, s.Route.Stable))
	if s.Route.Canary != "" {
		fmt.Fprintf(w, "canary       %s at %s, %s%s\n", s.Route.Canary.Short(), s.Route.Share, stepLine(s.Route), answering(s, s.Route.Canary))
	}
	fmt.Fprintf(w, "way back     %s (%s)\n", s.WayBack.Speed, s.WayBack.Why)
	fmt.Fprintf(w, "attribution  %s\n", s.Attribution)
	if s.Signing != "" {
		fmt.Fprintf(w, "signatures   %s\n", s.Signing)
	}
	if s.Frozen != nil {
		fmt.Fprintf(w, "frozen       by %s\n", s.Frozen)
	}
	if n := s.NextFreeze; n != nil {
		fmt.Fprintf(w, "next freeze  %s from %s\n", n.By, at(n.From))
	}
	fmt.Fprintf(w, "gateways     %d live", len(s.Gateways))
	if len(s.Behind) > 0 {
		fmt.Fprintf(w, ", behind: %s", strings.Join(s.Behind, ", "))
	}
	fmt.Fprintln(w)
	if s.Restored != "" {
		fmt.Fprintf(w, "registry     %s\n", s.Restored)
	}
	if r := s.Rollout; r != nil {
		fmt.Fprintf(w, "rollout      %s\n", rolloutLine(*r))
		printShadowed(w, s)
		printJudged(w, s)
	}
	for _, e := range s.Evaluations {
		fmt.Fprintf(w, "%-12s %s\n", lifecycle.EvaluationLoop, evaluationLine(e))
		fmt.Fprintf(w, "%-12s workflow %s %s\n", "", e.WorkflowID, e.URL)
	}
	for _, l := range s.Loops {
		says := "no worker answers"
		if l.State != nil {
			says = l.State.Phase + ": " + l.State.Reason
			if l.State.By.Name != "" {
				says += ", started by " + l.State.By.String()
			}
		}
		fmt.Fprintf(w, "%-12s %s\n", l.Claim.Loop, says)
		fmt.Fprintf(w, "%-12s workflow %s, fence %d %s\n", "", l.Claim.Owner.WorkflowID, l.Claim.Fence, l.URL)
	}
}

// printShadowed shows what the judge sees of the shadow step that goes on, else how it ended.
func printShadowed(w io.Writer, s control.StatusResult) {
	v := s.Shadowed
	if v == nil && s.Rollout.Shadow != nil {
		v = &s.Rollout.Shadow.Verdict
	}
	if v == nil {
		return
	}
	fmt.Fprintf(w, "%-12s shadow step: %s\n", "", shadowLine(*v))
	for _, line := range v.Lines() {
		fmt.Fprintf(w, "%-12s %s\n", "", line)
	}
}

// printJudged shows what the judge sees of the step that is held, else what it said of the last one that ended.
func printJudged(w io.Writer, s control.StatusResult) {
	v := s.Judged
	if ended := s.Rollout.Steps; v == nil && len(ended) > 0 {
		v = &ended[len(ended)-1].Verdict
	}
	if v == nil {
		return
	}
	fmt.Fprintf(w, "judged       %s: %s\n", v.Decision, v.Reason)
	for _, line := range v.Lines() {
		fmt.Fprintf(w, "%-12s %s\n", "", line)
	}
}

// stepLine says where a rollout is. Before its first share it may have a shadow step.
func stepLine(r lifecycle.Route) string {
	switch {
	case r.Shadow > 0:
		return fmt.Sprintf("shadow step: copies of %s of requests, shown to nobody", r.Shadow)
	case r.Step == lifecycle.ShadowIndex:
		return "shadow step is over"
	}
	return fmt.Sprintf("step %d", r.Step+1)
}

func shadowLine(v lifecycle.ShadowVerdict) string {
	line := fmt.Sprintf("%s: %s; %d pairs", v.Decision, v.Reason, v.Pairs)
	if v.Scored > 0 {
		line += fmt.Sprintf(", %d scored, the candidate %+.3g in the mean", v.Scored, v.Difference)
	}
	return line
}

func answering(s control.StatusResult, release lifecycle.Digest) string {
	for _, servers := range s.Servers {
		if servers.Release == release {
			return fmt.Sprintf(", %d of %d model servers answer", servers.Answering, servers.Asked)
		}
	}
	return ""
}

func rolloutLine(r lifecycle.Rollout) string {
	line := fmt.Sprintf("release %s %s", r.Release.Short(), r.Phase)
	if r.StartedBy.Name != "" {
		line = fmt.Sprintf("release %s, started by %s, %s", r.Release.Short(), r.StartedBy, r.Phase)
	}
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	if t := r.Touched; t != nil && r.Phase != lifecycle.RolloutPromoted {
		line += fmt.Sprintf(" (touched %d conversations)", t.Conversations)
	}
	return line
}

func orNone(d lifecycle.Digest) string {
	if d == "" {
		return "none"
	}
	return d.Short()
}
