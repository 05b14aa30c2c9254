package main

import (
	"fmt"
	"io"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

func newRollback(a *app) *cobra.Command {
	var reason string
	var direct bool
	cmd := &cobra.Command{
		Use: "rollback SERVICE", Short: "Take the way back: from a canary to stable, else to the release before",
		Long: "Roll back now. It needs no gate, no S3 and no Temporal, and returns when every live gateway has applied it, else\n" +
			"names those that have not and exits 5. --direct bypasses the control API too and goes to the registry with a role\n" +
			"that may do this and nothing else (registry.rollback_url).",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger (required)")
	cmd.Flags().BoolVar(&direct, "direct", false, "go to the registry itself")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if reason == "" {
			return lifecycle.Errorf(lifecycle.Invalid, "--reason: missing; say why, it goes to the ledger")
		}
		if direct {
			return a.rollbackDirect(cmd, args[0], reason)
		}
		out, err := call(a, cmd, control.Rollback, control.RollbackInput{Service: args[0], Reason: reason})
		return a.report(out, err, func(w io.Writer) {
			applied := fmt.Sprintf("applied by %d live gateways after %s", out.Live, out.Took)
			if out.Live == 0 {
				applied = "no gateway is live to apply it"
			}
			fmt.Fprintf(w, "stable is %s, generation %d, %s\n", orNone(out.Route.Stable), out.Route.Generation, applied)
		})
	}
	return cmd
}

func (a *app) rollbackDirect(cmd *cobra.Command, service, reason string) error {
	settings, err := configs.Load(a.settings)
	if err != nil {
		return err
	}
	if settings.Registry.RollbackURL == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "registry.rollback_url: missing; give the address of the rollback role")
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	route, _, err := registry.RollBackDirect(cmd.Context(), settings.Registry.RollbackURL, registry.Rollback{
		Service: service, By: lifecycle.Actor{Name: name, Via: "direct"}, Reason: reason,
	})
	return a.report(route, err, func(w io.Writer) {
		fmt.Fprintf(w, "stable is %s, generation %d; gateways apply it by themselves (see refit status)\n", orNone(route.Stable), route.Generation)
	})
}
